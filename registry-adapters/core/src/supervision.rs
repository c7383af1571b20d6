//! What one registry's items mean: its events guarded, its freshness kept. Sans-IO.
//!
//! Items, the time and due moments go in, [`Supervised`] comes out in order; `supervise.rs` is the shell that polls the
//! adapter. So the rules that keep endpoints through an outage can be driven without a runtime. It applies nothing: the
//! catalog does.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;
use weft_model::{Entry, RegistryEvent, RegistryId, Scope};

use crate::error::RegistryError;
use crate::freshness::{Freshness, FreshnessTracker, Note, UnixMillis};
use crate::guard::{Guard, GuardSettings};

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

/// The state of one supervised registry.
#[derive(Debug)]
pub struct Supervision {
    id: RegistryId,
    guard: Guard,
    tracker: FreshnessTracker,
    /// What is not taken yet; at most a handful.
    ready: VecDeque<Supervised>,
    /// Set when only time stamps changed since the last freshness item: told at this time at the latest.
    stamps_due: Option<Instant>,
}

impl Supervision {
    /// Of a registry that an earlier process left `restored` of. The first item is its freshness: syncing.
    pub fn new(id: RegistryId, settings: &SuperviseSettings, restored: &[Entry], wall: UnixMillis) -> Self {
        let tracker = FreshnessTracker::new(wall);
        let first = Supervised::Freshness(id.clone(), tracker.current().clone());
        let guard = Guard::resumed(settings.guard, restored);
        Self { id, guard, tracker, ready: VecDeque::from([first]), stamps_due: None }
    }

    /// Whose it is.
    pub fn id(&self) -> &RegistryId {
        &self.id
    }

    /// The next thing to do, in order.
    pub fn next_item(&mut self) -> Option<Supervised> {
        self.ready.pop_front()
    }

    /// Takes an item of the adapter at `now`, which people call `wall`. Returns what belongs in the log.
    pub fn on_item(
        &mut self,
        item: Result<RegistryEvent, RegistryError>,
        now: Instant,
        wall: UnixMillis,
    ) -> Vec<Note> {
        match item {
            Ok(event) => self.on_event(event, now, wall),
            Err(error) => self.on_error(&error, now, wall),
        }
    }

    /// When to call [`on_due`](Self::on_due).
    pub fn due(&self) -> Option<Instant> {
        [self.guard.reread_due(), self.stamps_due].into_iter().flatten().min()
    }

    /// Does what is due at `now`. Returns whether the adapter is to read everything anew.
    pub fn on_due(&mut self, now: Instant) -> bool {
        if self.stamps_due.is_some_and(|due| due <= now) {
            self.tell();
        }
        let again = self.guard.reread_due().is_some_and(|due| due <= now);
        if again {
            self.guard.reread_asked(now);
        }
        again
    }

    fn on_event(&mut self, event: RegistryEvent, now: Instant, wall: UnixMillis) -> Vec<Note> {
        let complete = matches!(event, RegistryEvent::Reset { scope: Scope::All, .. });
        let news = !says_nothing(&event);
        let verdict = self.guard.judge(event, now);
        let events = verdict.events.into_iter().filter(|event| !says_nothing(event));
        self.ready.extend(events.map(|event| Supervised::Event(self.id.clone(), event)));
        let mut notes = self.tracker.on_answer(complete, news, wall);
        if verdict.held_changed {
            let (would_drop, of) = self.guard.held_back();
            notes.extend(self.tracker.on_held(would_drop, of, wall));
        }
        self.tell_soon(notes.is_empty() && !verdict.held_changed, now);
        notes
    }

    fn on_error(&mut self, error: &RegistryError, now: Instant, wall: UnixMillis) -> Vec<Note> {
        let notes = self.tracker.on_error(error, wall);
        self.tell_soon(notes.is_empty(), now);
        notes
    }

    fn tell_soon(&mut self, only_stamps: bool, now: Instant) {
        match only_stamps {
            true => {
                self.stamps_due.get_or_insert(now + STAMPS_AT_MOST_EVERY);
            }
            false => self.tell(),
        }
    }

    fn tell(&mut self) {
        self.stamps_due = None;
        self.ready.push_back(Supervised::Freshness(self.id.clone(), self.tracker.current().clone()));
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

/// A busy registry's time stamps are told once a second, not with each event: nobody looks more often.
const STAMPS_AT_MOST_EVERY: Duration = Duration::from_secs(1);
