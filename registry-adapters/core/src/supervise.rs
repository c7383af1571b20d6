//! One registry under supervision: the shell that polls its adapter and writes the log lines.
//!
//! What an item does is decided by [`Supervision`]. A stream combinator without a task of its own: whoever polls it drives
//! it, so back-pressure reaches the adapter and dropping it ends everything. It never ends and yields no errors; what
//! goes wrong is in the [`Freshness`](crate::Freshness) items. It does not retry anything itself: adapters pace their own
//! retries, and it only slows one that spins.

use std::future;
use std::time::Duration;

use futures::stream::{self, BoxStream, Stream, StreamExt};
use tokio::time::{Instant, sleep_until};
use weft_model::{Entry, RegistryEvent, Severity};

use crate::Registry;
use crate::backoff::Backoff;
use crate::error::RegistryError;
use crate::freshness::{Note, UnixMillis};
use crate::reread::{Reread, RereadTrigger};
use crate::supervision::{SuperviseSettings, Supervised, Supervision};

/// Watches `registry` for ever. The first item is its freshness: syncing.
pub fn supervise(registry: Box<dyn Registry>, settings: SuperviseSettings) -> impl Stream<Item = Supervised> {
    resume(registry, settings, &[])
}

/// The same for a registry of which an earlier process left `restored` in the catalog: a first listing that lacks most of
/// it is held as any other that does.
pub fn resume(
    registry: Box<dyn Registry>,
    settings: SuperviseSettings,
    restored: &[Entry],
) -> impl Stream<Item = Supervised> + use<> {
    let supervision = Supervision::new(registry.id().clone(), &settings, restored, UnixMillis::now());
    stream::unfold(Supervisor::new(registry, supervision), |mut supervisor| async move {
        let item = supervisor.next().await;
        Some((item, supervisor))
    })
}

struct Supervisor {
    adapter: BoxStream<'static, Result<RegistryEvent, RegistryError>>,
    ended: bool,
    trigger: RereadTrigger,
    spin: Spin,
    supervision: Supervision,
}

impl Supervisor {
    fn new(registry: Box<dyn Registry>, supervision: Supervision) -> Self {
        let (trigger, reread) = Reread::channel();
        Self { adapter: registry.watch(reread), ended: false, trigger, spin: Spin::new(), supervision }
    }

    async fn next(&mut self) -> Supervised {
        loop {
            if let Some(item) = self.supervision.next_item() {
                return item;
            }
            let due = self.supervision.due();
            tokio::select! {
                item = next_item(&mut self.adapter, &mut self.spin), if !self.ended => self.on_item(item),
                () = sleep_until_some(due) => {
                    if self.supervision.on_due(Instant::now()) {
                        self.trigger.fire();
                    }
                }
            }
        }
    }

    fn on_item(&mut self, item: Option<Result<RegistryEvent, RegistryError>>) {
        let item = item.unwrap_or_else(|| {
            self.ended = true;
            Err(RegistryError::source_down("the adapter has stopped; the process must be restarted"))
        });
        let notes = self.supervision.on_item(item, Instant::now(), UnixMillis::now());
        log(self.supervision.id().as_str(), &notes);
    }
}

fn log(registry: &str, notes: &[Note]) {
    for note in notes {
        match note {
            Note::State { from, to, why: Some(why) } => {
                tracing::warn!(registry, %from, %to, "{why}; what was last known stays");
            }
            Note::State { from, to, why: None } => {
                tracing::info!(registry, %from, %to, "the source answers")
            }
            Note::Appeared(problem) if problem.severity == Severity::Error => {
                tracing::error!(registry, "{problem}; its last good state stays");
            }
            Note::Appeared(problem) => tracing::warn!(registry, "{problem}"),
            Note::Gone(problem) => tracing::info!(registry, "no longer: {problem}"),
            Note::Held(held) => tracing::warn!(
                registry,
                would_drop = held.would_drop,
                of = held.of,
                "a listing lacks most workloads: they stay until a second read confirms it"
            ),
            Note::Settled => tracing::info!(registry, "the listing that was held back is settled"),
        }
    }
}

/// Polls the adapter, later if it spins. Cancel safe: what it knows is in `spin`.
async fn next_item(
    adapter: &mut BoxStream<'static, Result<RegistryEvent, RegistryError>>,
    spin: &mut Spin,
) -> Option<Result<RegistryEvent, RegistryError>> {
    sleep_until_some_now(spin.not_before).await;
    spin.polled_at.get_or_insert_with(Instant::now);
    let item = adapter.next().await;
    spin.on_item(matches!(item, Some(Ok(_))), Instant::now());
    item
}

/// Tells an adapter that yields errors without pause from one that waits between them.
struct Spin {
    backoff: Backoff,
    /// Errors in a row without a pause.
    quick: u32,
    polled_at: Option<Instant>,
    not_before: Option<Instant>,
}

impl Spin {
    fn new() -> Self {
        let backoff = Backoff::new(SPINS_BELOW, SPIN_WAITS_AT_MOST);
        Self { backoff, quick: 0, polled_at: None, not_before: None }
    }

    fn on_item(&mut self, good: bool, now: Instant) {
        let waited = self.polled_at.take().map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.not_before = None;
        if good || waited >= SPINS_BELOW {
            self.backoff.reset();
            self.quick = 0;
        } else if self.quick < QUICK_ERRORS {
            self.quick += 1;
        } else {
            self.not_before = Some(now + self.backoff.next_delay());
        }
    }
}

async fn sleep_until_some(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => future::pending().await,
    }
}

async fn sleep_until_some_now(at: Option<Instant>) {
    if let Some(at) = at {
        sleep_until(at).await;
    }
}

/// An error sooner than this after the last item was not preceded by a pause.
const SPINS_BELOW: Duration = Duration::from_millis(50);
/// So many are fine: an adapter may have several things to say at once.
const QUICK_ERRORS: u32 = 4;
const SPIN_WAITS_AT_MOST: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
