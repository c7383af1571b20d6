//! A registry's adapter in one control plane: reads the truth, late, and tells it in the adapter's own way.
//!
//! It keeps the contract of `weft_registry::Registry` (errors are items, the first listing is of everything, a reread is of
//! everything) with the real back-off, in front of the real supervision.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weft_model::{Entry, EntryKey, RegistryEvent, Scope, ServiceKey};
use weft_registry::{Backoff, Freshness, RegistryError, SuperviseSettings, Supervision, UnixMillis};

use crate::truth::{Condition, Truth};

/// How an adapter tells of a change.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Style {
    /// It lists everything, as the file adapter does.
    Listing,
    /// It lists the services that changed, as the Consul adapter does.
    ByService,
    /// It tells what changed.
    Changes,
}

/// What came of a reading.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) items: Vec<Result<RegistryEvent, RegistryError>>,
    /// When what it says was true; `None`: never.
    pub(crate) of: Option<Duration>,
    known: BTreeMap<EntryKey, Entry>,
}

/// An adapter and its supervision.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) supervision: Supervision,
    pub(crate) freshness: Freshness,
    pub(crate) backoff: Backoff,
    pub(crate) style: Style,
    /// The next reading lists everything.
    pub(crate) whole: bool,
    /// A reading is under way; and another one is wanted after it.
    pub(crate) reading: bool,
    pub(crate) again: bool,
    /// The source is in error: the next reading is the next try.
    pub(crate) failing: bool,
    /// When it was read last.
    pub(crate) of: Option<Duration>,
    /// When supervision is looked at next.
    pub(crate) wake: Option<Duration>,
    known: BTreeMap<EntryKey, Entry>,
}

impl Source {
    pub(crate) fn new(
        truth: &Truth,
        style: Style,
        restored: &[Entry],
        of: Option<Duration>,
        wall: UnixMillis,
    ) -> Self {
        Self {
            supervision: Supervision::new(truth.id.clone(), &SuperviseSettings::default(), restored, wall),
            freshness: Freshness::default(),
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(20)),
            style,
            whole: true,
            reading: false,
            again: false,
            failing: false,
            of,
            wake: None,
            known: BTreeMap::new(),
        }
    }

    /// Reads `truth` as it shows itself in `condition`.
    pub(crate) fn read(&mut self, truth: &Truth, condition: Condition, now: Duration) -> Read {
        let failed = |error| Read { items: vec![Err(error)], of: None, known: BTreeMap::new() };
        let listed = |entries: &BTreeMap<EntryKey, Entry>| RegistryEvent::Reset {
            scope: Scope::All,
            entries: entries.values().cloned().collect(),
        };
        let whole = std::mem::replace(&mut self.whole, condition != Condition::Up);
        let known = truth.entries.clone();
        match condition {
            Condition::Down => failed(RegistryError::source_down("connection refused")),
            Condition::Denied => failed(RegistryError::permission_denied("403")),
            Condition::NotFound => failed(RegistryError::not_found("404")),
            Condition::Garbage => failed(RegistryError::garbage("<html>")),
            Condition::Empty => {
                Read { items: vec![Ok(listed(&BTreeMap::new()))], of: None, known: BTreeMap::new() }
            }
            Condition::Up if whole => Read { items: vec![Ok(listed(&known))], of: Some(now), known },
            Condition::Up => {
                let events = match self.style {
                    Style::Listing => vec![listed(&known)],
                    Style::ByService => vec![self.by_service(&known)],
                    Style::Changes => self.changes(&known),
                };
                Read { items: events.into_iter().map(Ok).collect(), of: Some(now), known }
            }
        }
    }

    /// What was read is there.
    pub(crate) fn arrived(&mut self, read: Read) -> Vec<Result<RegistryEvent, RegistryError>> {
        self.reading = false;
        self.failing = read.items.iter().any(Result::is_err);
        if !self.failing {
            self.backoff.reset();
            self.known = read.known;
        }
        self.of = self.of.max(read.of);
        read.items
    }

    fn differing(&self, now: &BTreeMap<EntryKey, Entry>) -> BTreeSet<EntryKey> {
        let keys = self.known.keys().chain(now.keys());
        keys.filter(|key| self.known.get(key) != now.get(key)).cloned().collect()
    }

    fn by_service(&self, now: &BTreeMap<EntryKey, Entry>) -> RegistryEvent {
        let mut services = BTreeSet::new();
        for key in self.differing(now) {
            let entries = [self.known.get(&key), now.get(&key)];
            services.extend(entries.into_iter().flatten().flat_map(services_of));
        }
        let within = |entry: &&Entry| services_of(entry).iter().any(|key| services.contains(key));
        let entries = now.values().filter(within).cloned().collect();
        RegistryEvent::Reset { scope: Scope::Services(services.iter().cloned().collect()), entries }
    }

    fn changes(&self, now: &BTreeMap<EntryKey, Entry>) -> Vec<RegistryEvent> {
        let (there, gone): (Vec<_>, Vec<_>) =
            self.differing(now).into_iter().partition(|key| now.contains_key(key));
        let upsert = there.iter().filter_map(|key| now.get(key)).cloned().collect();
        vec![RegistryEvent::Remove(gone), RegistryEvent::Upsert(upsert)]
    }
}

fn services_of(entry: &Entry) -> Vec<ServiceKey> {
    match entry {
        Entry::Service(service) => vec![service.key.clone()],
        Entry::Workload(workload) => workload.services.keys().cloned().collect(),
    }
}
