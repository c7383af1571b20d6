//! Good calls that go on while something is attacked: none may fail.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::task::JoinHandle;

use crate::world::good;

/// One good caller, again and again, each time on a connection of its own.
pub(crate) struct GoodCaller {
    stop: Arc<AtomicBool>,
    made: Arc<AtomicUsize>,
    task: JoinHandle<(Vec<String>, Duration)>,
}

impl GoodCaller {
    pub(crate) fn start(address: SocketAddr) -> Self {
        let (stop, made) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (stopping, counting) = (stop.clone(), made.clone());
        let task = tokio::spawn(async move {
            let (mut failures, mut slowest) = (Vec::new(), Duration::ZERO);
            while !stopping.load(Ordering::Relaxed) {
                let start = Instant::now();
                if let Err(error) = good(address).await {
                    failures.push(format!("{error:#}"));
                }
                slowest = slowest.max(start.elapsed());
                counting.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            (failures, slowest)
        });
        Self { stop, made, task }
    }

    /// Ends it, after enough calls to say so: none failed.
    pub(crate) async fn none_failed(self, what: &str) -> Result<usize> {
        weft_integration::eventually("enough calls were made", async || {
            Ok((self.made.load(Ordering::Relaxed) >= 20).then_some(()))
        })
        .await?;
        self.stop.store(true, Ordering::Relaxed);
        let (failures, slowest) = self.task.await?;
        let made = self.made.load(Ordering::Relaxed);
        println!("{what}: {made} good calls, {} failed, the slowest took {slowest:?}", failures.len());
        ensure!(
            failures.is_empty(),
            "{what}: {} of {made} good calls failed: {:?}",
            failures.len(),
            failures.first()
        );
        Ok(made)
    }
}
