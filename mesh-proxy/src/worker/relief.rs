//! What a worker does while the process is under pressure: it lets go of what nobody uses.
//!
//! Idle connections are asked to leave, a share at a time, and pooled ones without a request are closed. What the
//! allocator holds back for this thread is given to the kernel, or the memory would look used for as long as nothing new
//! comes, and nothing new comes while it looks used.

use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::Worker;
use crate::allocator;
use crate::overload::Pressure;
use crate::telemetry::Count;

/// Between two steps; as often as memory is measured.
const STEP: Duration = Duration::from_millis(100);
/// Idle connections that leave in a step, of all: 1 in so many …
const SHARE: usize = 4;
/// … and not fewer than this.
const LEAST: usize = 64;

/// Relieves the worker for as long as it lives.
pub(super) async fn relieve(worker: Weak<Worker>) {
    let Some(mut changes) = worker.upgrade().map(|worker| worker.shared.overload.subscribe()) else { return };
    // The sender is in `Shared`, which the worker holds.
    while changes.wait_for(|pressure| *pressure >= Pressure::High).await.is_ok() {
        let Some(worker) = worker.upgrade() else { return };
        worker.let_go();
        drop(worker);
        tokio::time::sleep(STEP).await;
    }
}

impl Worker {
    fn let_go(self: &Rc<Self>) {
        for tracker in [&self.inbound, &self.outbound] {
            let closed = tracker.close_idle((tracker.open() / SHARE).max(LEAST));
            self.shared.telemetry.add(Count::IdleClosed, closed as u64);
        }
        self.pools.shed(Instant::now());
        allocator::collect();
    }
}
