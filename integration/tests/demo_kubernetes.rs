//! `weft demo --kubernetes` itself, as a user starts it, on a real cluster: it ends well and leaves nothing.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tokio::process::Command;
use weft_integration::{Cluster, KUBERNETES, Process, eventually, ran_on};
use weft_registry_consul::testkit::{ConsulOptions, ConsulServer, ConsulVersion};

/// A cluster with the images that the demo needs.
async fn cluster(what: &str) -> Result<Option<Cluster>> {
    let Some(cluster) = Cluster::start(what).await? else { return Ok(None) };
    cluster.load_workload().await?;
    cluster.load_programs("weft.dev/proxy:0.1.0", "1337:1337", &["weft-proxy", "weft-redirect"]).await?;
    Ok(Some(cluster))
}

fn demo(cluster: &Cluster, more: &[&str], temporary: &Path) -> Result<Command> {
    let mut command = Command::new(Process::program("weft")?);
    command.args(["demo", "--kubernetes", "--json", "--kubeconfig"]).arg(cluster.kubeconfig());
    command.args(more).env("TMPDIR", temporary).kill_on_drop(true);
    Ok(command)
}

/// Every object that is not in a namespace, by kind and name; and the namespaces' own are gone with these.
async fn objects_of_the_cluster(cluster: &Cluster) -> Result<BTreeSet<String>> {
    let kinds = ["api-resources", "--namespaced=false", "--verbs=list", "-o", "name"];
    let kinds = cluster.kubectl(&kinds).await?;
    let kinds = kinds.split_whitespace().collect::<Vec<_>>().join(",");
    let all = cluster.kubectl(&["get", &kinds, "-o", "name", "--ignore-not-found"]).await?;
    let objects: BTreeSet<String> = all.lines().map(str::to_owned).collect();
    ensure!(objects.contains("namespace/default"), "{objects:?}");
    Ok(objects)
}

fn files_in(directory: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(directory)?.filter_map(Result::ok);
    Ok(entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

#[tokio::test]
async fn pods_files_and_consul_call_each_other_and_nothing_is_left_in_the_cluster() -> Result<()> {
    let what = "weft demo --kubernetes --consul";
    weft_identity::install_crypto_provider();
    let consul = ConsulServer::start(ConsulVersion::V1_20_5, ConsulOptions::default()).await?;
    let Some(cluster) = cluster(what).await? else { return Ok(()) };
    let before = objects_of_the_cluster(&cluster).await?;
    let address = consul.as_ref().map(ConsulServer::address);
    let more: Vec<&str> = address.iter().flat_map(|address| ["--consul", address.as_str()]).collect();
    let temporary = tempfile::tempdir()?;
    let run = demo(&cluster, &more, temporary.path())?.output();
    let output = tokio::time::timeout(Duration::from_secs(180), run).await??;
    let text = String::from_utf8(output.stdout)?;
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    let events = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let of = |kind: &str| events.iter().filter(|event| event["event"] == kind).collect::<Vec<_>>();

    let summary = events.last().context("there is a last line")?;
    assert!(output.status.success() && summary["ok"] == true && summary["failed"] == 0, "{summary}");
    let calls = of("call");
    for (from, to, answered) in [
        ("web (a pod)", "billing (a file)", "billing on this machine"),
        ("web (a pod)", "ledger (Consul)", "ledger on this machine"),
        ("web (a pod)", "api", "api in a pod"),
        ("web (a pod)", "api", "api on this machine"),
        ("shop (here)", "api", "api in a pod"),
    ] {
        if consul.is_none() && to.contains("Consul") {
            continue;
        }
        let is = |call: &&&Value| call["from"] == from && call["to"] == to && call["answered_by"] == answered;
        let call = calls.iter().find(is).with_context(|| format!("{from} -> {to}: {answered}"))?;
        let caller = call["caller"].as_str().unwrap_or_default();
        assert!(caller.starts_with("spiffe://demo.weft/ns/weft-demo-"), "{call}");
    }
    for load in of("load") {
        assert!(load["failed"] == 0 && load["calls"].as_u64() > Some(300), "{load}");
    }
    assert_eq!(of("load").len(), 2);
    assert!(of("refused").len() == 1 && of("refused")[0]["refused"] == true);
    assert_eq!(objects_of_the_cluster(&cluster).await?, before);
    if let Some(consul) = &consul {
        assert_eq!(consul.get("agent/services").await?, serde_json::json!({}));
    }
    assert_eq!(files_in(temporary.path())?, Vec::<String>::new());
    ran_on(KUBERNETES, what);
    Ok(())
}

#[tokio::test]
async fn a_demo_that_is_interrupted_leaves_nothing_in_the_cluster_either() -> Result<()> {
    let what = "weft demo --kubernetes, interrupted";
    let Some(cluster) = cluster(what).await? else { return Ok(()) };
    let before = objects_of_the_cluster(&cluster).await?;
    // While pods are made, and under load.
    for (event, signal) in [("\"what\":\"weft-control\"", Signal::INT), ("api: 2 pods to 0", Signal::TERM)] {
        let (temporary, log) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let mut process = Process::start("demo", demo(&cluster, &[], temporary.path())?, log.path())?;
        eventually("it has come that far", async || Ok(process.log().contains(event).then_some(()))).await?;
        assert_ne!(objects_of_the_cluster(&cluster).await?, before, "its namespace is not there");
        process.signal(signal)?;
        let status = eventually("it ends", async || Ok(process.ended())).await?;
        let said = process.log();
        assert!(!status.success() && said.contains("interrupted"), "{status}: {said}");
        assert_eq!(objects_of_the_cluster(&cluster).await?, before, "{said}");
        assert_eq!(files_in(temporary.path())?, Vec::<String>::new(), "{said}");
    }
    ran_on(KUBERNETES, what);
    Ok(())
}

#[tokio::test]
async fn a_node_without_the_images_is_an_error_that_says_how_to_bring_them() -> Result<()> {
    let what = "weft demo --kubernetes, without images";
    let Some(cluster) = Cluster::start(what).await? else { return Ok(()) };
    let before = objects_of_the_cluster(&cluster).await?;
    let temporary = tempfile::tempdir()?;
    let output = demo(&cluster, &[], temporary.path())?.output().await?;
    let text = String::from_utf8(output.stdout)?;
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("no image weft.test/workload:1") && text.contains("--workload-image"), "{text}");
    assert_eq!(objects_of_the_cluster(&cluster).await?, before);
    ran_on(KUBERNETES, what);
    Ok(())
}
