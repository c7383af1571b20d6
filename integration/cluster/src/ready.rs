//! From the word to begin to a cluster that is of use: API server, images, the other components, DNS, Ready. What need
//! not wait for each other goes side by side.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::components::THEN;
use crate::images;
use crate::running::Cluster;

/// A busy machine may need ten times what a free one does.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// Returns when the node is Ready, its DNS answers and pods may be made.
pub(crate) fn bring_up(cluster: &Cluster) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    std::thread::scope(|scope| {
        let images = scope.spawn(|| load(cluster, end));
        until(end, "the API server answers", || {
            cluster.node_lives()?;
            Ok(cluster.kubectl(&["get", "--raw", "/readyz", "--request-timeout=2s"]).is_ok())
        })?;
        for component in THEN {
            cluster.start_component(component)?;
        }
        images.join().map_err(|_| anyhow::anyhow!("making images panicked"))?.context("the images")
    })?;
    cluster.apply_file(&cluster.folder().path("conf").join("dns.yaml")).context("the cluster's DNS")?;
    until(end, "the node is Ready", || {
        let path = r#"jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}"#;
        Ok(cluster.kubectl(&["get", "nodes", "-o", path]).is_ok_and(|said| said == "True"))
    })?;
    // A pod that is made before its account is refused.
    until(end, "the default service account is there", || {
        Ok(cluster.kubectl(&["get", "serviceaccount", "default"]).is_ok())
    })?;
    until(end, "the cluster's DNS is ready", || {
        let path = "jsonpath={.status.readyReplicas}";
        let said = cluster.kubectl(&["-n", "kube-system", "get", "deployment", "coredns", "-o", path]);
        Ok(said.is_ok_and(|said| said == "1"))
    })
}

fn load(cluster: &Cluster, end: Instant) -> Result<()> {
    let made = [images::pause()?, images::app()?, images::coredns(&cluster.tools().coredns)?];
    until(end, "containerd answers", || {
        Ok(cluster.exec("ctr").args(["--connect-timeout", "1s", "version"]).output()?.status.success())
    })?;
    for image in &made {
        cluster.load(&image.archive()?).with_context(|| image.name.clone())?;
    }
    Ok(())
}

fn until(end: Instant, what: &str, mut is: impl FnMut() -> Result<bool>) -> Result<()> {
    while !is().context(what.to_owned())? {
        if Instant::now() > end {
            bail!("{what}: not within {} s", PATIENCE.as_secs());
        }
        std::thread::park_timeout(LOOK);
    }
    Ok(())
}
