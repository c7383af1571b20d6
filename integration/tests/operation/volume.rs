//! Many calls leave nothing behind: none fails, and no proxy holds more files than before.

use std::time::{Duration, Instant};

use anyhow::Result;
use weft_integration::{Load, MeshPlan, Proxy, eventually, get};

use crate::world::shop_with;

const CALLS: u64 = 20_000;
const CLIENTS: u32 = 64;

fn open_files(proxy: &Proxy) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{}/fd", proxy.process.pid()?))?.count())
}

#[tokio::test]
async fn twenty_thousand_calls_at_once_by_sixty_four_fail_never_and_leak_nothing() -> Result<()> {
    // Idle pooled connections are no leak; they go soon here, so that what stays is one.
    let more = "[timeouts]\npool_idle = \"1s\"\n";
    let shop = shop_with(MeshPlan::default(), &["v1"], "http1", more).await?;
    get(shop.web.upstream("api"), "/").await?;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let proxies: Vec<&Proxy> = shop.api.iter().chain([&shop.web]).collect();
    let before = proxies.iter().map(|proxy| open_files(proxy)).collect::<Result<Vec<_>>>()?;

    let start = Instant::now();
    let load = Load::start(shop.web.upstream("api"), "/", CLIENTS, 1_000_000);
    while load.so_far().answered < CALLS && start.elapsed() < Duration::from_secs(60) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let during = proxies.iter().map(|proxy| open_files(proxy)).collect::<Result<Vec<_>>>()?;
    let outcome = load.stop().await;
    println!("{} calls in {:?}, {} failed", outcome.answered, start.elapsed(), outcome.failures.len());
    assert!(outcome.failures.is_empty(), "{:?}", outcome.failures.first());
    assert!(outcome.answered >= CALLS, "only {}", outcome.answered);
    eventually("as few files are open as before", async || {
        let after = proxies.iter().map(|proxy| open_files(proxy)).collect::<Result<Vec<_>>>()?;
        let grown = after.iter().zip(&before).any(|(after, before)| after > before);
        anyhow::ensure!(!grown, "before {before:?}, during {during:?}, after {after:?}");
        Ok(Some(()))
    })
    .await
}
