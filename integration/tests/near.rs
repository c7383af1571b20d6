//! What a service's callers prefer, from the registry's file to the proxy's choice: two callers in two zones, each of which
//! learns from the mesh where it is.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode};
use weft_integration::{Mesh, MeshPlan, Proxy, ProxyPlan, eventually, get, http1};

/// A caller whose proxy knows of itself only its address; where that is, the registry says.
async fn caller(mesh: &Mesh, name: &str, address: &str, place: &str) -> Result<Proxy> {
    let workload = format!(
        "kind: Workload\nname: {name}\nservice: web\nidentity: web\naddresses: [{address}]\nports: []\n{place}"
    );
    mesh.register(&format!("{name}.yaml"), &workload)?;
    let own = format!("\n[locality]\naddresses = \"{address}\"\n");
    let proxy = mesh.proxy(ProxyPlan::new(name, "web").upstream("api").more(&own)).await?;
    proxy.ready().await?;
    Ok(proxy)
}

async fn answering(proxy: &Proxy) -> Result<BTreeSet<String>> {
    let mut versions = BTreeSet::new();
    for _ in 0..40 {
        versions.insert(get(proxy.upstream("api"), "/").await?.version);
    }
    Ok(versions)
}

async fn settles(proxy: &Proxy, what: &str, expected: &[&str]) -> Result<()> {
    eventually(what, async || {
        let versions = answering(proxy).await?;
        ensure!(versions.iter().map(String::as_str).eq(expected.iter().copied()), "{versions:?} answer");
        Ok(Some(()))
    })
    .await
}

fn says(mesh: &Mesh, prefer: &str) -> Result<()> {
    mesh.register("service.yaml", &format!("kind: Service\nname: api\n{prefer}"))
}

#[tokio::test]
async fn callers_in_two_zones_keep_to_their_own_until_nobody_is_left_there() -> Result<()> {
    let mesh = Mesh::start(MeshPlan::default()).await?;
    says(&mesh, "")?;
    let mut callees = Vec::new();
    for (zone, node) in [("a", "n1"), ("b", "n2")] {
        let app = mesh.http_app("api", zone).await?;
        let callee = mesh.member(&app, zone, "http1").await?;
        let object = callee.object("api", zone, app.address.port(), "http1");
        mesh.register(&format!("api-{zone}.yaml"), &format!("{object}locality: eu/{zone}\nnode: {node}\n"))?;
        callees.push((app, callee));
    }
    let one = caller(&mesh, "web-1", "198.18.5.1", "locality: eu/a\nnode: n1\n").await?;
    let two = caller(&mesh, "web-2", "198.18.5.2", "locality: eu/b\nnode: n9\n").await?;
    settles(&one, "without a word all are alike", &["a", "b"]).await?;
    says(&mesh, "prefer: zone\n")?;
    settles(&one, "web-1 keeps to its zone", &["a"]).await?;
    settles(&two, "web-2 keeps to its own", &["b"]).await?;

    says(&mesh, "prefer: node-only\n")?;
    settles(&one, "web-1 has a neighbour", &["a"]).await?;
    let refused = eventually("web-2 has none", async || {
        let request = Request::get("/").header("host", "test").body(Full::<Bytes>::default())?;
        let response = http1(two.upstream("api"), request).await?;
        Ok((response.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(()))
    });
    refused.await?;
    eventually("the access log says why", async || {
        let log = two.access_log();
        Ok(log.iter().any(|line| line["response_flags"] == "NLE").then_some(()))
    })
    .await?;

    says(&mesh, "prefer: zone\n")?;
    mesh.deregister("api-a.yaml")?;
    settles(&one, "no call is lost where the zone is empty", &["b"]).await?;
    Ok(())
}
