//! An adapter under supervision, with a catalog behind it: for tests of one adapter's own, beside the contract.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::time::{Instant, timeout_at};
use weft_model::{Catalog, RegistryEvent, Scope, ServiceKey, Workload};

use crate::{Freshness, Registry, State, SuperviseSettings, Supervised, supervise};

/// A watched registry.
pub struct Watching {
    stream: Pin<Box<dyn Stream<Item = Supervised> + Send>>,
    /// What it holds.
    pub catalog: Catalog,
    /// The latest.
    pub freshness: Option<Freshness>,
    /// How many services each scoped `Reset` spoke for; `None` for one of everything.
    pub resets: Vec<Option<usize>>,
}

impl Watching {
    /// Watches it.
    pub fn new(registry: impl Registry, supervision: SuperviseSettings) -> Self {
        let stream = Box::pin(supervise(Box::new(registry), supervision));
        Self { stream, catalog: Catalog::new(BTreeMap::new()), freshness: None, resets: Vec::new() }
    }

    /// Takes what comes until `done`.
    ///
    /// # Panics
    /// With the last state, after 20 seconds.
    pub async fn until(&mut self, what: &str, done: impl Fn(&Watching) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !done(self) {
            match timeout_at(deadline, self.stream.next()).await {
                Ok(Some(item)) => self.take(item),
                Ok(None) => panic!("the stream ended while waiting: {what}"),
                Err(_) => panic!("waited in vain: {what}; {:#?}\n{:#?}", self.freshness, self.workloads()),
            }
        }
    }

    /// Takes what comes for this long.
    pub async fn during(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Ok(Some(item)) = timeout_at(end, self.stream.next()).await {
            self.take(item);
        }
    }

    fn take(&mut self, item: Supervised) {
        match item {
            Supervised::Event(registry, event) => {
                match &event {
                    RegistryEvent::Reset { scope: Scope::All, .. } => self.resets.push(None),
                    RegistryEvent::Reset { scope: Scope::Services(keys), .. } => {
                        self.resets.push(Some(keys.len()))
                    }
                    _ => {}
                }
                self.catalog.apply(&registry, event);
            }
            Supervised::Freshness(_, freshness) => self.freshness = Some(freshness),
        }
    }

    /// What the source does.
    pub fn state(&self) -> State {
        self.freshness.as_ref().map_or(State::Syncing, |freshness| freshness.state)
    }

    /// What is wrong with its objects.
    pub fn problems(&self) -> Vec<String> {
        let problems = self.freshness.iter().flat_map(|freshness| &freshness.problems);
        problems.map(ToString::to_string).collect()
    }

    /// What went wrong last.
    pub fn error(&self) -> String {
        let freshness = self.freshness.as_ref();
        freshness
            .and_then(|freshness| freshness.last_error.as_ref())
            .map_or(String::new(), |e| e.message.clone())
    }

    /// The instances.
    pub fn workloads(&self) -> Vec<Workload> {
        self.catalog.snapshot().workloads().map(|workload| (**workload).clone()).collect()
    }

    /// The ids of a service's members, sorted.
    ///
    /// # Panics
    /// When that is no service's name.
    pub fn members(&self, service: &str) -> Vec<String> {
        let key: ServiceKey = service.parse().expect("a test names a service");
        let snapshot = self.catalog.snapshot();
        let mut ids: Vec<String> = snapshot.members(&key).map(|workload| workload.id.to_string()).collect();
        ids.sort();
        ids
    }

    /// Waits until it has been read.
    pub async fn until_synced(&mut self) {
        self.until("synced", |watching| watching.state() == State::Synced).await;
    }

    /// Waits until a service has so many members.
    pub async fn until_members(&mut self, service: &str, count: usize) {
        let what = format!("{service} has {count} members");
        self.until(&what, |watching| watching.members(service).len() == count).await;
    }
}
