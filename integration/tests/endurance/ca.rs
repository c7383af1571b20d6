//! The CA cannot be reached while every certificate is due for renewal, twice.

use std::time::Instant;

use anyhow::{Result, ensure};
use weft_integration::{MeshPlan, Proxy, eventually};

use crate::world::{Shop, Traffic, generation};

/// Renewed after 13.5 to 16.5 s; valid for as long again, which is how long the CA may be away.
const PLAN: &str = "[ca]\nleaf_ttl = \"30s\"\n";

#[tokio::test]
async fn a_ca_that_is_away_over_two_renewals_costs_no_request() -> Result<()> {
    let plan = MeshPlan { more: PLAN.to_owned(), ..MeshPlan::default() };
    let mut shop = Shop::open(plan).await?;
    let traffic = Traffic::start(&shop.web).await?;
    let (mut away, mut attempts) = (0.0f64, 0.0);
    for _ in 0..2 {
        let mut before = Vec::new();
        for proxy in shop.proxies() {
            before.push((generation(proxy).await?, failures(proxy).await?));
        }
        let start = Instant::now();
        shop.mesh.kill_control().await?;
        // Each was due, tried, and serves on with what it has.
        for (proxy, (generation_before, failures_before)) in shop.proxies().zip(&before) {
            eventually("a renewal is due", async || {
                Ok((failures(proxy).await? > *failures_before).then_some(()))
            })
            .await?;
            ensure!(generation(proxy).await? == *generation_before, "who has renewed it?");
        }
        shop.mesh.start_control().await?;
        away = away.max(start.elapsed().as_secs_f64());
        for (proxy, (generation_before, failures_before)) in shop.proxies().zip(&before) {
            eventually("it is renewed", async || {
                Ok((generation(proxy).await? > *generation_before).then_some(()))
            })
            .await?;
            attempts += failures(proxy).await? - failures_before;
        }
    }
    traffic.meets(200).await?;
    let more =
        format!("leaves of 30 s; away for up to {away:.0} s each time, {attempts} renewals failed meanwhile");
    traffic.unharmed("CA away over two renewals", &more).await?;
    Ok(())
}

async fn failures(proxy: &Proxy) -> Result<f64> {
    proxy.metric("weft_svid_failures_total", &[]).await
}
