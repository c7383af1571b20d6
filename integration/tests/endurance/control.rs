//! The control plane is killed again and again, and stopped in its tracks.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use weft_integration::{MeshPlan, eventually};

use crate::world::{Shop, Traffic, lasts};

const KILLS: usize = 20;
const FROZEN: Duration = Duration::from_secs(30);

#[tokio::test]
async fn twenty_kills_of_the_control_plane_cost_no_request_and_resend_nothing() -> Result<()> {
    let mut shop = Shop::open(MeshPlan::default()).await?;
    shop.mesh.in_sync(4).await?;
    let traffic = Traffic::start(&shop.web).await?;
    let mut slowest = Duration::ZERO;
    for _ in 0..KILLS {
        shop.mesh.kill_control().await?;
        traffic.meets(100).await?;
        let start = Instant::now();
        shop.mesh.start_control().await?;
        shop.mesh.in_sync(4).await?;
        slowest = slowest.max(start.elapsed());
        let metrics = shop.mesh.admin("/metrics").await?;
        let mut lines = metrics.as_str().unwrap_or_default().lines();
        let sent = lines.find(|line| line.starts_with("weft_control_resources_sent_total"));
        ensure!(sent.is_some_and(|line| line.ends_with(" 0")), "unchanged state was sent again: {sent:?}");
    }
    traffic.meets(100).await?;
    let more = format!("start to all in sync at most {:.1} s", slowest.as_secs_f64());
    traffic.unharmed("control plane killed 20 times", &more).await?;
    Ok(())
}

#[tokio::test]
async fn a_control_plane_that_stands_still_for_half_a_minute_costs_no_request() -> Result<()> {
    let mut shop = Shop::open(MeshPlan::default()).await?;
    shop.mesh.in_sync(4).await?;
    let traffic = Traffic::start(&shop.web).await?;
    shop.mesh.control()?.signal(Signal::STOP)?;
    let (file, object) = shop.object(0)?;
    shop.mesh.register(&file, &object.replace("health: healthy", "health: draining"))?;
    lasts(FROZEN).await;
    shop.mesh.control()?.signal(Signal::CONT)?;
    let start = Instant::now();
    eventually("web hears what was changed meanwhile", async || {
        let endpoints = shop.web.endpoints("default/api").await?;
        Ok(endpoints.values().any(|endpoint| endpoint["health"] == "draining").then_some(()))
    })
    .await?;
    let heard = start.elapsed();
    shop.mesh.in_sync(4).await?;
    let more = format!("the change of meanwhile at web {:.2} s after it went on", heard.as_secs_f64());
    traffic.unharmed("control plane stopped (SIGSTOP) for 30 s", &more).await?;
    Ok(())
}
