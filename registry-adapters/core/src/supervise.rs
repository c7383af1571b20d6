//! One registry under supervision: its events guarded, its freshness kept, its log lines written once.
//!
//! A stream combinator without a task of its own: whoever polls it drives it, so back-pressure reaches the adapter and
//! dropping it ends everything. It never ends and yields no errors; what goes wrong is in the [`Freshness`] items.
//! It does not retry anything itself: adapters pace their own retries, and it only slows one that spins.

use std::collections::VecDeque;
use std::future;
use std::time::Duration;

use futures::stream::{self, BoxStream, Stream, StreamExt};
use tokio::time::{Instant, sleep_until};
use weft_model::{Entry, RegistryEvent, RegistryId, Scope, Severity};

use crate::Registry;
use crate::backoff::Backoff;
use crate::error::RegistryError;
use crate::freshness::{Freshness, FreshnessTracker, Note, UnixMillis};
use crate::guard::{Guard, GuardSettings};
use crate::reread::{Reread, RereadTrigger};

/// How a registry is supervised.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SuperviseSettings {
    /// When a listing is not believed at once.
    pub guard: GuardSettings,
}

/// What supervision yields.
#[derive(Debug, Clone, PartialEq)]
pub enum Supervised {
    /// A change, to be applied to the catalog.
    Event(RegistryId, RegistryEvent),
    /// The registry's freshness changed. It comes after the events that it speaks of.
    Freshness(RegistryId, Freshness),
}

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
    let guard = Guard::resumed(settings.guard, restored);
    stream::unfold(Supervisor::new(registry, guard), |mut supervisor| async move {
        let item = supervisor.next().await;
        Some((item, supervisor))
    })
}

struct Supervisor {
    id: RegistryId,
    adapter: BoxStream<'static, Result<RegistryEvent, RegistryError>>,
    ended: bool,
    trigger: RereadTrigger,
    guard: Guard,
    tracker: FreshnessTracker,
    spin: Spin,
    /// Items of the event being worked on; at most a handful.
    ready: VecDeque<Supervised>,
    /// Set when only time stamps changed since the last freshness item: told at this time at the latest.
    stamps_due: Option<Instant>,
}

impl Supervisor {
    fn new(registry: Box<dyn Registry>, guard: Guard) -> Self {
        let id = registry.id().clone();
        let (trigger, reread) = Reread::channel();
        let tracker = FreshnessTracker::new(UnixMillis::now());
        let first = Supervised::Freshness(id.clone(), tracker.current().clone());
        Self {
            id,
            adapter: registry.watch(reread),
            ended: false,
            trigger,
            guard,
            tracker,
            spin: Spin::new(),
            ready: VecDeque::from([first]),
            stamps_due: None,
        }
    }

    async fn next(&mut self) -> Supervised {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return item;
            }
            let (reread_due, stamps_due) = (self.guard.reread_due(), self.stamps_due);
            tokio::select! {
                item = next_item(&mut self.adapter, &mut self.spin), if !self.ended => self.on_item(item),
                () = sleep_until_some(reread_due) => self.ask_again(),
                () = sleep_until_some(stamps_due) => self.tell(),
            }
        }
    }

    fn on_item(&mut self, item: Option<Result<RegistryEvent, RegistryError>>) {
        match item {
            Some(Ok(event)) => self.on_event(event),
            Some(Err(error)) => self.on_error(&error),
            None => {
                self.ended = true;
                self.on_error(&RegistryError::source_down(
                    "the adapter has stopped; the process must be restarted",
                ));
            }
        }
    }

    fn on_event(&mut self, event: RegistryEvent) {
        let complete = matches!(event, RegistryEvent::Reset { scope: Scope::All, .. });
        let news = !says_nothing(&event);
        let verdict = self.guard.judge(event, Instant::now());
        let events = verdict.events.into_iter().filter(|event| !says_nothing(event));
        self.ready.extend(events.map(|event| Supervised::Event(self.id.clone(), event)));
        let now = UnixMillis::now();
        let mut notes = self.tracker.on_answer(complete, news, now);
        if verdict.held_changed {
            let (would_drop, of) = self.guard.held_back();
            notes.extend(self.tracker.on_held(would_drop, of, now));
        }
        self.note(&notes);
        if notes.is_empty() && !verdict.held_changed {
            self.stamps_due.get_or_insert(Instant::now() + STAMPS_AT_MOST_EVERY);
        } else {
            self.tell();
        }
    }

    fn on_error(&mut self, error: &RegistryError) {
        let notes = self.tracker.on_error(error, UnixMillis::now());
        self.note(&notes);
        if notes.is_empty() {
            self.stamps_due.get_or_insert(Instant::now() + STAMPS_AT_MOST_EVERY);
        } else {
            self.tell();
        }
    }

    fn ask_again(&mut self) {
        self.guard.reread_asked(Instant::now());
        self.trigger.fire();
    }

    fn tell(&mut self) {
        self.stamps_due = None;
        self.ready.push_back(Supervised::Freshness(self.id.clone(), self.tracker.current().clone()));
    }

    fn note(&self, notes: &[Note]) {
        let registry = self.id.as_str();
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
}

/// An `Upsert` or `Remove` of nothing: the source answers and has no news.
fn says_nothing(event: &RegistryEvent) -> bool {
    match event {
        RegistryEvent::Upsert(entries) => entries.is_empty(),
        RegistryEvent::Remove(keys) => keys.is_empty(),
        RegistryEvent::Reset { .. } => false,
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

/// A busy registry's time stamps are told once a second, not with each event: nobody looks more often.
const STAMPS_AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// An error sooner than this after the last item was not preceded by a pause.
const SPINS_BELOW: Duration = Duration::from_millis(50);
/// So many are fine: an adapter may have several things to say at once.
const QUICK_ERRORS: u32 = 4;
const SPIN_WAITS_AT_MOST: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
