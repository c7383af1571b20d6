//! Strict mTLS: nobody without an identity gets in, and Nomad's own checks go on saying the truth.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use weft_integration::{ProxyPlan, eventually, get};

use crate::job::Job;
use crate::world::World;

#[tokio::test]
async fn under_strict_mtls_plaintext_is_refused_and_checks_still_tell_well_from_ill() -> Result<()> {
    let Some(world) = World::start(1, "").await? else { return Ok(()) };
    world.run(&Job::new("api").meta("inbound-plaintext", "strict").hcl(&world)).await?;
    world.until_running("api", 1).await?;
    world.until_in_mesh("api", 1).await?;
    let outside = world.mesh.proxy(ProxyPlan::new("outside", "outside").upstream("api")).await?;
    outside.ready().await?;
    eventually("the mesh reaches it", async || get(outside.upstream("api"), "/").await.map(Some)).await?;

    let registration = world.server.get("service/api").await?;
    let host: std::net::IpAddr = registration[0]["Address"].as_str().context("text")?.parse()?;
    let port = u16::try_from(registration[0]["Port"].as_u64().context("a number")?)?;
    let direct = get(SocketAddr::new(host, port), "/").await;
    ensure!(direct.is_err(), "a stranger got in: {direct:?}");

    // An application that hangs: its check fails, and callers are told.
    let alloc =
        world.running("api").await?.first().context("it runs")?["ID"].as_str().context("text")?.to_owned();
    let app = crate::life::pid(&world, "api", "app").await?;
    let signal = |signal| {
        let pid = rustix::process::Pid::from_raw(i32::try_from(app)?).context("a pid")?;
        Ok::<(), anyhow::Error>(rustix::process::kill_process(pid, signal)?)
    };
    signal(rustix::process::Signal::STOP)?;
    let ill = eventually("its check fails", async || {
        let checks = world.clients[0].get(&format!("client/allocation/{alloc}/checks")).await?;
        let failing = checks.as_object().into_iter().flatten().any(|(_, check)| check["Status"] == "failure");
        let listed = world.workloads("api").await?;
        Ok((failing && listed.iter().all(|one| one["health"] == "unhealthy")).then_some(()))
    })
    .await;
    signal(rustix::process::Signal::CONT)?;
    ill?;
    world.until_in_mesh("api", 1).await
}
