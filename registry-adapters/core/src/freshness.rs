//! How far a registry's word can be trusted now: synced, stale since when and why, denied, what is held back.
//!
//! Staleness is data: it goes to the snapshot's readers, the admin endpoint and the metrics. A pure state machine; the
//! time comes with each input, as Unix milliseconds, since what it yields is shown to people and other processes.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::{Problem, RegistryError, RegistryErrorKind};

/// A point in time, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// The wall clock's time.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// How long ago it was at `now`; nothing where the clock was set back.
    pub fn age(self, now: UnixMillis) -> Duration {
        Duration::from_millis(now.0.saturating_sub(self.0))
    }
}

/// What a registry's source does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// No error, and the first complete listing is not there yet.
    #[default]
    Syncing,
    /// Everything was listed and the source answers.
    Synced,
    /// The source does not answer, or answers what is not understood. What was last known stays.
    Stale,
    /// The source refuses us. What was last known stays.
    Denied,
    /// The source says that what we were told to read does not exist. What was last known stays.
    NotFound,
}

impl State {
    /// The name, as it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Syncing => "syncing",
            Self::Synced => "synced",
            Self::Stale => "stale",
            Self::Denied => "denied",
            Self::NotFound => "not_found",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The last error about the source as a whole. It stays after the source has recovered; the state tells which it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReport {
    /// Its kind.
    pub kind: RegistryErrorKind,
    /// The error with all its causes.
    pub message: String,
    /// When it was last seen.
    pub at_unix_ms: UnixMillis,
    /// How many there were in a row.
    pub in_a_row: u64,
}

/// A listing that lost too much to be believed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldReset {
    /// Since when it is held.
    pub since_unix_ms: UnixMillis,
    /// Workloads that it lacked and that stay for now.
    pub would_drop: usize,
    /// Workloads that the registry has, those included.
    pub of: usize,
}

/// What is known about a registry's freshness. A plain value: it is shown as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Freshness {
    /// What the source does.
    pub state: State,
    /// Since when it does.
    pub since_unix_ms: UnixMillis,
    /// When everything was first listed. `None`: nothing complete is known yet.
    pub first_sync_unix_ms: Option<UnixMillis>,
    /// When the source last answered.
    pub last_contact_unix_ms: Option<UnixMillis>,
    /// When it last said something new.
    pub last_event_unix_ms: Option<UnixMillis>,
    /// The last error about the source as a whole.
    pub last_error: Option<ErrorReport>,
    /// What is wrong with single objects now, sorted.
    pub problems: Vec<Problem>,
    /// A listing that waits to be confirmed.
    pub held_reset: Option<HeldReset>,
}

impl Freshness {
    /// Whether everything has been listed once: the registry counts for readiness.
    pub fn has_synced(&self) -> bool {
        self.first_sync_unix_ms.is_some()
    }

    /// Whether a process may answer proxies as far as this registry is concerned: it has listed everything, or it is not
    /// `required` and the wait for it is `overdue`.
    pub fn lets_serve(&self, required: bool, overdue: bool) -> bool {
        self.has_synced() || (overdue && !required)
    }

    /// For how long the source has not confirmed what is known; nothing while it is synced. A quiet source that
    /// is watched is not stale, however long nothing changes.
    pub fn staleness(&self, now: UnixMillis) -> Duration {
        match self.state {
            State::Synced => Duration::ZERO,
            _ => self.last_contact_unix_ms.unwrap_or(self.since_unix_ms).age(now),
        }
    }
}

/// Something about freshness that belongs in the log, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The state changed.
    State {
        /// What it was.
        from: State,
        /// What it is.
        to: State,
        /// The error that did it.
        why: Option<String>,
    },
    /// An object has a problem that it did not have before.
    Appeared(Problem),
    /// A problem is gone.
    Gone(Problem),
    /// A listing is held back.
    Held(HeldReset),
    /// What was held back is settled: confirmed, or listed again.
    Settled,
}

/// Keeps a [`Freshness`] up to date.
#[derive(Debug)]
pub struct FreshnessTracker {
    current: Freshness,
    failures: u64,
}

impl FreshnessTracker {
    /// A registry that starts to sync at `now`.
    pub fn new(now: UnixMillis) -> Self {
        Self { current: Freshness { since_unix_ms: now, ..Freshness::default() }, failures: 0 }
    }

    /// What is known.
    pub fn current(&self) -> &Freshness {
        &self.current
    }

    /// The source answered; `complete` when it listed everything, `news` when it said anything.
    pub fn on_answer(&mut self, complete: bool, news: bool, now: UnixMillis) -> Vec<Note> {
        self.failures = 0;
        self.current.last_contact_unix_ms = Some(now);
        if news {
            self.current.last_event_unix_ms = Some(now);
        }
        if complete {
            self.current.first_sync_unix_ms.get_or_insert(now);
        }
        let synced = self.current.first_sync_unix_ms.is_some();
        self.enter(if synced { State::Synced } else { State::Syncing }, None, now)
    }

    /// The source, or some of its objects, are in error.
    pub fn on_error(&mut self, error: &RegistryError, now: UnixMillis) -> Vec<Note> {
        let state = match error.kind() {
            RegistryErrorKind::SourceDown | RegistryErrorKind::Garbage => State::Stale,
            RegistryErrorKind::PermissionDenied => State::Denied,
            RegistryErrorKind::NotFound => State::NotFound,
            RegistryErrorKind::Invalid => return self.on_problems(error.wrong_objects()),
        };
        self.failures += 1;
        let message = error.chain();
        self.current.last_error = Some(ErrorReport {
            kind: error.kind(),
            message: message.clone(),
            at_unix_ms: now,
            in_a_row: self.failures,
        });
        self.enter(state, Some(message), now)
    }

    /// The guard holds `would_drop` of `of` workloads back; 0 when it holds nothing.
    pub fn on_held(&mut self, would_drop: usize, of: usize, now: UnixMillis) -> Vec<Note> {
        let before = self.current.held_reset.take();
        if would_drop == 0 {
            return if before.is_some() { vec![Note::Settled] } else { Vec::new() };
        }
        let since_unix_ms = before.map_or(now, |held| held.since_unix_ms);
        let held = HeldReset { since_unix_ms, would_drop, of };
        self.current.held_reset = Some(held);
        if before.is_none() { vec![Note::Held(held)] } else { Vec::new() }
    }

    fn on_problems(&mut self, problems: &[Problem]) -> Vec<Note> {
        let before = std::mem::replace(&mut self.current.problems, problems.to_vec());
        let appeared = problems.iter().filter(|problem| before.binary_search(problem).is_err());
        let gone = before.iter().filter(|problem| problems.binary_search(problem).is_err());
        appeared.cloned().map(Note::Appeared).chain(gone.cloned().map(Note::Gone)).collect()
    }

    fn enter(&mut self, state: State, why: Option<String>, now: UnixMillis) -> Vec<Note> {
        let from = std::mem::replace(&mut self.current.state, state);
        if from == state {
            return Vec::new();
        }
        self.current.since_unix_ms = now;
        vec![Note::State { from, to: state, why }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: fn(u64) -> UnixMillis = UnixMillis;

    fn synced() -> FreshnessTracker {
        let mut tracker = FreshnessTracker::new(T(0));
        tracker.on_answer(true, true, T(10));
        tracker
    }

    #[test]
    fn a_registry_is_synced_only_once_everything_was_listed() {
        let mut tracker = FreshnessTracker::new(T(0));
        assert!(tracker.on_answer(false, true, T(5)).is_empty());
        assert_eq!((tracker.current().state, tracker.current().has_synced()), (State::Syncing, false));
        tracker.on_answer(true, true, T(9));
        assert_eq!(tracker.current().state, State::Synced);
        assert_eq!(tracker.current().first_sync_unix_ms, Some(T(9)));
    }

    #[test]
    fn an_error_that_repeats_is_noted_once_and_counted() {
        let mut tracker = synced();
        let down = RegistryError::source_down("connection refused");
        assert_eq!(tracker.on_error(&down, T(20)).len(), 1);
        assert!(tracker.on_error(&down, T(30)).is_empty());
        let freshness = tracker.current();
        assert_eq!((freshness.state, freshness.since_unix_ms), (State::Stale, T(20)));
        assert_eq!(freshness.last_error.as_ref().map(|error| error.in_a_row), Some(2));
        assert_eq!(freshness.staleness(T(40)), Duration::from_millis(30));
    }

    #[test]
    fn down_denied_and_not_found_are_three_states_and_each_ends_with_an_answer() {
        let errors = [
            (RegistryError::source_down("x"), State::Stale),
            (RegistryError::garbage("x"), State::Stale),
            (RegistryError::permission_denied("x"), State::Denied),
            (RegistryError::not_found("x"), State::NotFound),
        ];
        for (error, state) in errors {
            let mut tracker = synced();
            tracker.on_error(&error, T(20));
            assert_eq!(tracker.current().state, state);
            // An empty answer is enough: the source answers and has nothing new.
            let notes = tracker.on_answer(false, false, T(30));
            assert_eq!(notes, [Note::State { from: state, to: State::Synced, why: None }]);
            assert_eq!(tracker.current().last_event_unix_ms, Some(T(10)));
            assert_eq!(tracker.current().staleness(T(1000)), Duration::ZERO);
        }
    }

    #[test]
    fn a_source_that_answers_before_it_ever_listed_all_goes_back_to_syncing() {
        let mut tracker = FreshnessTracker::new(T(0));
        tracker.on_error(&RegistryError::source_down("x"), T(1));
        tracker.on_answer(false, true, T(2));
        assert_eq!(tracker.current().state, State::Syncing);
    }

    #[test]
    fn wrong_objects_are_listed_without_making_the_source_stale() {
        let mut tracker = synced();
        let (a, b) = (Problem::error("a.yaml", "bad"), Problem::warning("b.yaml", "odd"));
        tracker.on_error(&RegistryError::problems(vec![b.clone(), a.clone()]), T(20));
        assert_eq!(tracker.current().state, State::Synced);
        assert_eq!(tracker.current().problems, [a.clone(), b.clone()]);
        let notes = tracker.on_error(&RegistryError::problems(vec![b]), T(30));
        assert_eq!(notes, [Note::Gone(a)]);
    }

    #[test]
    fn a_held_reset_keeps_its_first_time_and_is_noted_at_start_and_end() {
        let mut tracker = synced();
        assert_eq!(tracker.on_held(3, 4, T(20)).len(), 1);
        assert!(tracker.on_held(2, 4, T(30)).is_empty());
        let held = HeldReset { since_unix_ms: T(20), would_drop: 2, of: 4 };
        assert_eq!(tracker.current().held_reset, Some(held));
        assert_eq!(tracker.on_held(0, 4, T(40)), [Note::Settled]);
        assert_eq!(tracker.current().held_reset, None);
    }
}
