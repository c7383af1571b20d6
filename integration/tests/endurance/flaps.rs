//! An instance leaves the registry and comes back, five hundred times each way.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use weft_integration::MeshPlan;

use crate::world::{Shop, Traffic, lasts};

const FLAPS: usize = 1000;
/// Longer than updates are gathered, so that each is sent.
const BETWEEN: Duration = Duration::from_millis(25);

#[tokio::test]
async fn a_thousand_flaps_of_endpoints_cost_no_request() -> Result<()> {
    let shop = Shop::open(MeshPlan::default()).await?;
    let traffic = Traffic::start(&shop.web).await?;
    let (before, start) = (shop.web.metric("weft_config_revision", &[]).await?, Instant::now());
    for flap in 0..FLAPS / 2 {
        let (file, object) = shop.object(flap % 2)?;
        shop.mesh.deregister(&file)?;
        lasts(BETWEEN).await;
        shop.mesh.register(&file, &object)?;
        lasts(BETWEEN).await;
    }
    let took = start.elapsed();
    shop.knows(2).await?;
    let applied = shop.web.metric("weft_config_revision", &[]).await? - before;
    ensure!(applied >= FLAPS as f64 / 2.0, "web applied only {applied} changes: they were not flaps to it");
    traffic.meets(100).await?;
    let more = format!("in {:.0} s; web applied {applied} changes", took.as_secs_f64());
    traffic.unharmed("1,000 endpoint flaps", &more).await?;
    Ok(())
}
