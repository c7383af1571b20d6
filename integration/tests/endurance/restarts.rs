//! The callee's proxies are restarted, one after the other, as a rollout does it: SIGTERM, its end, a new process.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weft_integration::MeshPlan;

use crate::world::{Shop, Traffic};

const RESTARTS: usize = 50;
/// Streams of half a second: shorter than the drain deadline, so that each is carried to its end.
const MESSAGES: u64 = 10;

#[tokio::test]
async fn fifty_graceful_restarts_of_the_callees_proxies_cost_no_request_and_no_stream() -> Result<()> {
    let mut shop = Shop::open(MeshPlan::default()).await?;
    let traffic = Traffic::with_streams_of(&shop.web, Some(MESSAGES)).await?;
    let mut longest = Duration::ZERO;
    for round in 0..RESTARTS {
        let proxy = shop.api.get_mut(round % 2).context("a proxy")?;
        let start = std::time::Instant::now();
        let status = proxy.process.stop(Duration::from_secs(20)).await?;
        ensure!(status.success(), "{status}: {}", proxy.process.log());
        longest = longest.max(start.elapsed());
        proxy.start_again()?;
        proxy.ready().await?;
        traffic.meets(50).await?;
    }
    let more = format!("a drain took at most {:.1} s", longest.as_secs_f64());
    let requests = traffic.unharmed("callee's proxies restarted 50 times", &more).await?;
    ensure!(requests.by_version.len() == 2, "{:?}", requests.by_version);
    Ok(())
}
