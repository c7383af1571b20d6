//! What a supervised adapter has said so far, and waiting for it to say something.
//!
//! The view is the plainest reading of the events: a map. It ignores what the kit did not register, since real servers
//! register themselves.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use futures::stream::{Stream, StreamExt};
use tokio::time::{Instant, timeout_at};
use weft_model::{Entry, EntryKey, Health, RegistryEvent, Scope, Workload};

use super::{Instance, Pace};
use crate::freshness::{Freshness, State};
use crate::supervise::supervise;
use crate::supervision::{SuperviseSettings, Supervised};
use crate::{GuardSettings, Registry};

/// What was said so far.
#[derive(Debug, Default)]
pub struct View {
    entries: BTreeMap<EntryKey, Entry>,
    /// The latest freshness.
    pub freshness: Freshness,
}

impl View {
    /// The kit's instances by port, with their health.
    pub fn instances(&self) -> BTreeMap<u16, Health> {
        self.workloads().flat_map(|workload| ports(workload).map(|port| (port, workload.health))).collect()
    }

    /// Whether exactly these instances are there, each with its health.
    pub fn holds(&self, instances: &[Instance]) -> bool {
        self.instances() == instances.iter().map(|instance| (instance.port, instance.health)).collect()
    }

    /// What the source does.
    pub fn state(&self) -> State {
        self.freshness.state
    }

    fn workloads(&self) -> impl Iterator<Item = &Workload> {
        self.entries.values().filter_map(|entry| match entry {
            Entry::Workload(workload) => Some(workload.as_ref()),
            Entry::Service(_) => None,
        })
    }

    /// Applies an event as a registry's own view of itself.
    pub fn apply(&mut self, event: RegistryEvent) {
        match event {
            RegistryEvent::Reset { scope, entries } => {
                self.entries.retain(|_, entry| !is_within(&scope, entry));
                self.upsert(entries);
            }
            RegistryEvent::Upsert(entries) => self.upsert(entries),
            RegistryEvent::Remove(keys) => self.entries.retain(|key, _| !keys.contains(key)),
        }
    }

    fn upsert(&mut self, entries: Vec<Entry>) {
        self.entries.extend(entries.into_iter().map(|entry| (entry.key(), entry)));
    }
}

fn ports(workload: &Workload) -> impl Iterator<Item = u16> {
    let kits = workload.services.iter().filter(|(service, _)| service.name.as_str().starts_with("kit-"));
    kits.flat_map(|(_, ports)| ports).map(|port| port.number)
}

fn is_within(scope: &Scope, entry: &Entry) -> bool {
    match (scope, entry) {
        (Scope::All, _) => true,
        (Scope::Services(services), Entry::Service(service)) => services.contains(&service.key),
        (Scope::Services(services), Entry::Workload(workload)) => {
            workload.services.keys().any(|service| services.contains(service))
        }
    }
}

/// A supervised adapter that is watched.
pub struct Observer {
    stream: Pin<Box<dyn Stream<Item = Supervised> + Send>>,
    view: View,
    pace: Pace,
}

impl Observer {
    /// Supervises `registry` with this guard.
    pub fn new(registry: Box<dyn Registry>, guard: GuardSettings, pace: Pace) -> Self {
        let stream = Box::pin(supervise(registry, SuperviseSettings { guard }));
        Self { stream, view: View::default(), pace }
    }

    /// What was said so far.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Waits until the view is as wanted.
    ///
    /// # Errors
    /// When it is not within the backend's patience; says what it is then.
    pub async fn until(&mut self, wanted: &str, is_wanted: impl Fn(&View) -> bool) -> Result<(), String> {
        let end = Instant::now() + self.pace.patience;
        while !is_wanted(&self.view) {
            if !self.take_until(end).await {
                return Err(format!("within {:?} not {wanted}; {}", self.pace.patience, self.shown()));
            }
        }
        Ok(())
    }

    /// Watches that the view stays as wanted for the backend's quiet time.
    ///
    /// # Errors
    /// When it does not; says what it became.
    pub async fn stays(&mut self, wanted: &str, is_wanted: impl Fn(&View) -> bool) -> Result<(), String> {
        self.stays_for(self.pace.quiet, wanted, is_wanted).await
    }

    /// Watches that the view stays as wanted for this time.
    ///
    /// # Errors
    /// When it does not; says what it became.
    pub async fn stays_for(
        &mut self,
        time: Duration,
        wanted: &str,
        is_wanted: impl Fn(&View) -> bool,
    ) -> Result<(), String> {
        let end = Instant::now() + time;
        loop {
            if !is_wanted(&self.view) {
                return Err(format!("no longer {wanted}; {}", self.shown()));
            }
            // What a busy machine brings after the end does not count.
            if !self.take_until(end).await || Instant::now() > end {
                return Ok(());
            }
        }
    }

    /// Takes one item; whether one came before `end`.
    async fn take_until(&mut self, end: Instant) -> bool {
        match timeout_at(end, self.stream.next()).await {
            Ok(Some(Supervised::Event(_, event))) => self.view.apply(event),
            Ok(Some(Supervised::Freshness(_, freshness))) => self.view.freshness = freshness,
            Ok(None) | Err(_) => return false,
        }
        true
    }

    fn shown(&self) -> String {
        let Freshness { state, last_error, problems, held_reset, .. } = &self.view.freshness;
        let error = last_error.as_ref().map_or("none", |error| error.message.as_str());
        format!(
            "state {state}, instances {:?}, last error: {error}, problems: {problems:?}, held: {held_reset:?}",
            self.view.instances()
        )
    }
}
