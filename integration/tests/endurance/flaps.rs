//! An instance leaves the registry and comes back, five hundred times each way.

use std::time::Instant;

use anyhow::{Result, ensure};
use weft_integration::{MeshPlan, Proxy, eventually};

use crate::world::{Shop, Traffic};

const FLAPS: usize = 1000;

#[tokio::test]
async fn a_thousand_flaps_of_endpoints_cost_no_request() -> Result<()> {
    let shop = Shop::open(MeshPlan::default()).await?;
    let traffic = Traffic::start(&shop.web).await?;
    let (first, start) = (revision(&shop.web).await?, Instant::now());
    let mut known = first;
    for flap in 0..FLAPS / 2 {
        let (file, object) = shop.object(flap % 2)?;
        shop.mesh.deregister(&file)?;
        known = beyond(&shop.web, known).await?;
        shop.mesh.register(&file, &object)?;
        known = beyond(&shop.web, known).await?;
    }
    let took = start.elapsed();
    ensure!(known - first >= FLAPS as f64, "web applied only {} changes", known - first);
    shop.knows(2).await?;
    traffic.meets(100).await?;
    let more = format!("in {:.0} s, each applied by web before the next", took.as_secs_f64());
    traffic.unharmed("1,000 endpoint flaps", &more).await?;
    Ok(())
}

async fn revision(web: &Proxy) -> Result<f64> {
    web.metric("weft_config_revision", &[]).await
}

/// Waits until `web` has applied something after `known`.
async fn beyond(web: &Proxy, known: f64) -> Result<f64> {
    eventually("web applies the change", async || {
        let now = revision(web).await?;
        Ok((now > known).then_some(now))
    })
    .await
}
