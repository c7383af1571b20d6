//! Weft itself: control plane, certificates by join token, endpoints from the file registry, as in production.

use std::net::SocketAddr;

use anyhow::Result;
use weft_integration::{Mesh, MeshPlan, ProxyPlan};

use super::{Place, Running};

pub(super) async fn start(place: &Place<'_>) -> Result<Running> {
    match place.scenario.is_pair() {
        true => pair(place.backend, place.scenario.wire().protocol()).await,
        false => hop(place.backend, place.scenario.wire().protocol()).await,
    }
}

async fn pair(backend: SocketAddr, protocol: &str) -> Result<Running> {
    let mesh = Mesh::start(MeshPlan::default()).await?;
    let callee =
        mesh.proxy(ProxyPlan::new("bench-1", "bench").quiet().inbound(backend.port(), protocol)).await?;
    mesh.register("bench.yaml", &callee.object("bench", "v1", backend.port(), protocol))?;
    callee.ready().await?;
    let caller = mesh.proxy(ProxyPlan::new("caller", "caller").quiet().upstream("bench")).await?;
    caller.ready().await?;
    Ok(Running {
        entry: caller.upstream("bench"),
        pids: vec![caller.process.pid()?, callee.process.pid()?],
        configuration: vec![],
        processes: vec![],
        _keep: vec![Box::new(caller), Box::new(callee), Box::new(mesh)],
    })
}

/// The caller's side alone: the endpoint has no proxy, and the upstream allows that.
async fn hop(backend: SocketAddr, protocol: &str) -> Result<Running> {
    let mesh = Mesh::start(MeshPlan::default()).await?;
    let object = format!(
        "kind: Workload\nname: bench-1\nservice: bench\naddresses: [{}]\nhealth: healthy\n\
         ports: [{{name: main, number: {}, protocol: {protocol}}}]\n",
        backend.ip(),
        backend.port()
    );
    mesh.register("bench.yaml", &object)?;
    let plan = ProxyPlan::new("caller", "caller").quiet().upstream_with("bench", "plaintext = true");
    let caller = mesh.proxy(plan).await?;
    caller.ready().await?;
    Ok(Running {
        entry: caller.upstream("bench"),
        pids: vec![caller.process.pid()?],
        configuration: vec![],
        processes: vec![],
        _keep: vec![Box::new(caller), Box::new(mesh)],
    })
}
