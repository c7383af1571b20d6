//! The Reset guard: a listing that loses most of a registry at once is believed only when it is read twice.
//!
//! A workload is lost to callers as much when it is listed and in no service any more: where workloads and their services
//! are read apart, one of the two may come from a source that lost its data.
//!
//! One that loses all of it is doubted for longer: nobody removes everything, and a source that was emptied fills again
//! bit by bit, as whoever is registered there says so anew. While some come back, the others are waited for.
//!
//! Sources lie in this way: a server restored from an old snapshot, a replica that just started, a token that lost
//! rights. Pure: `now` is passed in. It keeps the keys that the registry holds, and which services they belong to, since
//! that is what a `Reset`'s scope is measured against. What users remove one by one (`Remove`) is never held.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use weft_model::{Entry, EntryKey, RegistryEvent, Scope, ServiceKey};

/// When a `Reset` is held.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GuardSettings {
    /// Whether any is.
    pub enabled: bool,
    /// A `Reset` that drops more than this share of the registry's workloads is held. One workload alone never is.
    pub fraction: f64,
    /// A second read at least this much later confirms it.
    pub confirm_after: Duration,
    /// The same where nothing at all is left.
    pub confirm_empty_after: Duration,
}

impl Default for GuardSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            fraction: 0.5,
            confirm_after: Duration::from_secs(30),
            confirm_empty_after: Duration::from_secs(600),
        }
    }
}

/// What to do about one event.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What is applied now.
    pub events: Vec<RegistryEvent>,
    /// Whether this event started, changed or ended the holding.
    pub held_changed: bool,
}

/// Stands between one registry and the catalog.
#[derive(Debug)]
pub struct Guard {
    settings: GuardSettings,
    /// What the registry holds, held back removals included: key to services.
    holds: BTreeMap<EntryKey, Box<[ServiceKey]>>,
    /// The other way round, so that a Reset of one service costs that service and not the registry.
    members: BTreeMap<ServiceKey, BTreeSet<EntryKey>>,
    workloads: usize,
    /// Keys that a Reset lacked and that are kept for now, and since when.
    missing: BTreeMap<EntryKey, Instant>,
    /// Those of them that it listed, in no service. A Reset of one service says nothing of them.
    emptied: BTreeSet<EntryKey>,
    /// Since when a Reset of everything was passed on in part only. What it lacked and is not known here, as a service that
    /// was restored under the mesh's name, is gone with the next one that is passed on whole.
    unsettled: Option<Instant>,
    /// When the last second read was asked for.
    asked: Option<Instant>,
}

impl Guard {
    /// A guard of a registry that holds nothing yet.
    pub fn new(settings: GuardSettings) -> Self {
        Self {
            settings,
            holds: BTreeMap::new(),
            members: BTreeMap::new(),
            workloads: 0,
            missing: BTreeMap::new(),
            emptied: BTreeSet::new(),
            unsettled: None,
            asked: None,
        }
    }

    /// A guard of a registry that held `restored` when it was last heard.
    ///
    /// Only workloads count in what is held, and only they have the same keys here and there: a restored service has
    /// the mesh's name, which a mapping may have made from another.
    pub fn resumed(settings: GuardSettings, restored: &[Entry]) -> Self {
        let mut guard = Self::new(settings);
        let workloads = restored.iter().filter(|entry| matches!(entry, Entry::Workload(_)));
        workloads.for_each(|entry| guard.take(entry));
        guard
    }

    /// Judges one event at `now`.
    pub fn judge(&mut self, event: RegistryEvent, now: Instant) -> Verdict {
        let before = self.missing.len();
        let mut newly_held = false;
        if let RegistryEvent::Upsert(entries) | RegistryEvent::Reset { entries, .. } = &event
            && entries.iter().any(|entry| self.missing.contains_key(&entry.key()) && !self.is_emptied(entry))
        {
            self.missing.values_mut().for_each(|since| *since = now);
        }
        let events = match event {
            RegistryEvent::Upsert(entries) => {
                entries.iter().for_each(|entry| self.take(entry));
                vec![RegistryEvent::Upsert(entries)]
            }
            RegistryEvent::Remove(keys) => {
                keys.iter().for_each(|key| self.drop_key(key));
                vec![RegistryEvent::Remove(keys)]
            }
            RegistryEvent::Reset { scope, entries } => {
                let (events, held) = self.judge_reset(scope, entries, now);
                newly_held = held;
                events
            }
        };
        Verdict { events, held_changed: newly_held || self.missing.len() != before }
    }

    /// How many workloads it keeps that a Reset lacked, and how many there are in all.
    pub fn held_back(&self) -> (usize, usize) {
        (self.missing.keys().filter(|key| is_workload(key)).count(), self.workloads)
    }

    /// When a second read is due, while a Reset is held or was not passed on whole.
    pub fn reread_due(&self) -> Option<Instant> {
        let oldest = self.missing.values().min().or(self.unsettled.as_ref())?;
        // An adapter whose source is down answers late or never: ask again after the same time.
        let from = self.asked.map_or(*oldest, |asked| asked.max(*oldest));
        Some(from + self.settings.confirm_after)
    }

    /// A second read was asked for at `now`.
    pub fn reread_asked(&mut self, now: Instant) {
        self.asked = Some(now);
    }

    fn judge_reset(
        &mut self,
        scope: Scope,
        mut entries: Vec<Entry>,
        now: Instant,
    ) -> (Vec<RegistryEvent>, bool) {
        let had = self.workloads;
        let kept = entries.iter().filter(|entry| !self.is_emptied(entry));
        let kept: BTreeSet<EntryKey> = kept.map(Entry::key).collect();
        let emptied = entries.iter().map(Entry::key).filter(|key| !kept.contains(key));
        let emptied: BTreeSet<EntryKey> = emptied.collect();
        let lost = self.within(&scope).into_iter().filter(|key| !kept.contains(key));
        let (untold, lost): (BTreeSet<_>, BTreeSet<_>) = lost
            .chain(emptied.iter().cloned())
            .partition(|key| scope != Scope::All && self.emptied.contains(key) && !emptied.contains(key));
        let (mut dropped, doubtful): (Vec<_>, Vec<_>) =
            lost.into_iter().partition(|key| self.is_confirmed(key, now));
        let too_much = self.is_too_much(&doubtful, had);
        let (held, believed): (BTreeSet<_>, BTreeSet<_>) =
            doubtful.into_iter().partition(|key| too_much || self.missing.contains_key(key));
        dropped.extend(believed);
        dropped.iter().for_each(|key| self.drop_key(key));
        entries.retain(|entry| !held.contains(&entry.key()));
        entries.iter().for_each(|entry| self.take(entry));
        if scope == Scope::All {
            self.unsettled = if held.is_empty() { None } else { self.unsettled.or(Some(now)) };
        }
        if held.is_empty() && untold.is_empty() {
            return (vec![RegistryEvent::Reset { scope, entries }], false);
        }
        let mut newly_held = false;
        for key in held {
            match emptied.contains(&key) {
                true => drop(self.emptied.insert(key.clone())),
                false => drop(self.emptied.remove(&key)),
            }
            newly_held |=
                self.missing.insert(key.clone(), self.missing.get(&key).copied().unwrap_or(now)).is_none();
        }
        // One that is in no service any more is listed all the same.
        dropped.retain(|key| !self.holds.contains_key(key));
        let mut events = vec![RegistryEvent::Upsert(entries)];
        if !dropped.is_empty() {
            events.push(RegistryEvent::Remove(dropped));
        }
        (events, newly_held)
    }

    /// Whether a workload that was in services is in none.
    fn is_emptied(&self, entry: &Entry) -> bool {
        let Entry::Workload(workload) = entry else { return false };
        workload.services.is_empty()
            && self.holds.get(&entry.key()).is_some_and(|services| !services.is_empty())
    }

    /// Whether this read of a held key's absence comes late enough after the first.
    fn is_confirmed(&self, key: &EntryKey, now: Instant) -> bool {
        let (missing, all) = self.held_back();
        let GuardSettings { confirm_after, confirm_empty_after, .. } = self.settings;
        let after = if missing == all { confirm_empty_after.max(confirm_after) } else { confirm_after };
        self.missing.get(key).is_some_and(|since| now >= *since + after)
    }

    /// Whether losing `doubtful`, of `had` workloads, is more than is believed at once.
    fn is_too_much(&self, doubtful: &[EntryKey], had: usize) -> bool {
        let lost = doubtful.iter().filter(|key| is_workload(key)).count();
        self.settings.enabled && lost >= 2 && lost as f64 > had as f64 * self.settings.fraction
    }

    fn within(&self, scope: &Scope) -> Vec<EntryKey> {
        match scope {
            Scope::All => self.holds.keys().cloned().collect(),
            Scope::Services(services) => {
                let keys: BTreeSet<EntryKey> = services
                    .iter()
                    .filter_map(|service| self.members.get(service))
                    .flatten()
                    .cloned()
                    .collect();
                keys.into_iter().collect()
            }
        }
    }

    fn take(&mut self, entry: &Entry) {
        let key = entry.key();
        let services: Box<[ServiceKey]> = match entry {
            Entry::Service(service) => Box::from([service.key.clone()]),
            Entry::Workload(workload) => workload.services.keys().cloned().collect(),
        };
        self.believe(&key);
        if self.holds.get(&key) == Some(&services) {
            return;
        }
        self.drop_key(&key);
        for service in &services {
            self.members.entry(service.clone()).or_default().insert(key.clone());
        }
        self.workloads += usize::from(is_workload(&key));
        self.holds.insert(key, services);
    }

    /// What was said of the key is no longer held back.
    fn believe(&mut self, key: &EntryKey) {
        self.missing.remove(key);
        self.emptied.remove(key);
    }

    fn drop_key(&mut self, key: &EntryKey) {
        self.believe(key);
        let Some(services) = self.holds.remove(key) else { return };
        self.workloads -= usize::from(is_workload(key));
        for service in services {
            let Some(members) = self.members.get_mut(&service) else { continue };
            members.remove(key);
            if members.is_empty() {
                self.members.remove(&service);
            }
        }
    }
}

fn is_workload(key: &EntryKey) -> bool {
    matches!(key, EntryKey::Workload(_))
}

#[cfg(test)]
mod tests;
