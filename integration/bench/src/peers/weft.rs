//! Weft's own pair: control plane, certificates by join token, endpoints from the file registry, as in production.

use std::net::SocketAddr;

use anyhow::Result;
use weft_integration::{Mesh, MeshPlan, ProxyPlan};

use super::Pair;

pub(super) async fn start(backend: SocketAddr) -> Result<Pair> {
    let mesh = Mesh::start(MeshPlan::default()).await?;
    let callee =
        mesh.proxy(ProxyPlan::new("bench-1", "bench").quiet().inbound(backend.port(), "http1")).await?;
    mesh.register("bench.yaml", &callee.object("bench", "v1", backend.port(), "http1"))?;
    callee.ready().await?;
    let caller = mesh.proxy(ProxyPlan::new("caller", "caller").quiet().upstream("bench")).await?;
    caller.ready().await?;
    Ok(Pair {
        entry: caller.upstream("bench"),
        pids: vec![caller.process.pid()?, callee.process.pid()?],
        halves: vec![],
        _keep: vec![Box::new(caller), Box::new(callee), Box::new(mesh)],
    })
}
