//! The adapter under supervision, with a catalog behind it.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::time::{Instant, timeout_at};
use weft_model::{Catalog, RegistryEvent, RegistryId, Scope, ServiceKey, TrustDomain, Workload};
use weft_registry::{Freshness, State, SuperviseSettings, Supervised, supervise};
use weft_registry_kubernetes::{KubernetesRegistry, KubernetesSettings};

/// A watched registry.
pub(crate) struct Watching {
    stream: Pin<Box<dyn Stream<Item = Supervised> + Send>>,
    pub(crate) catalog: Catalog,
    pub(crate) freshness: Option<Freshness>,
    /// How many services each scoped `Reset` spoke for; `None` for one of everything.
    pub(crate) resets: Vec<Option<usize>>,
}

impl Watching {
    pub(crate) fn new(settings: KubernetesSettings) -> Self {
        Self::with(settings, SuperviseSettings::default())
    }

    pub(crate) fn with(settings: KubernetesSettings, supervision: SuperviseSettings) -> Self {
        let id: RegistryId = "kubernetes/prod".parse().unwrap();
        let domain: TrustDomain = "weft.test".parse().unwrap();
        let registry = KubernetesRegistry::new(id, settings, domain).unwrap();
        let stream = Box::pin(supervise(Box::new(registry), supervision));
        Self { stream, catalog: Catalog::new(BTreeMap::new()), freshness: None, resets: Vec::new() }
    }

    /// Takes what comes until `done`; fails with the last state after 20 seconds.
    pub(crate) async fn until(&mut self, what: &str, done: impl Fn(&Watching) -> bool) {
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
    pub(crate) async fn during(&mut self, time: Duration) {
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

    pub(crate) fn state(&self) -> State {
        self.freshness.as_ref().map_or(State::Syncing, |freshness| freshness.state)
    }

    pub(crate) fn problems(&self) -> Vec<String> {
        let problems = self.freshness.iter().flat_map(|freshness| &freshness.problems);
        problems.map(ToString::to_string).collect()
    }

    pub(crate) fn error(&self) -> String {
        let freshness = self.freshness.as_ref();
        freshness
            .and_then(|freshness| freshness.last_error.as_ref())
            .map_or(String::new(), |e| e.message.clone())
    }

    pub(crate) fn workloads(&self) -> Vec<Workload> {
        self.catalog.snapshot().workloads().map(|workload| (**workload).clone()).collect()
    }

    /// The ids of a service's members, sorted.
    pub(crate) fn members(&self, service: &str) -> Vec<String> {
        let key: ServiceKey = service.parse().unwrap();
        let snapshot = self.catalog.snapshot();
        let mut ids: Vec<String> = snapshot.members(&key).map(|workload| workload.id.to_string()).collect();
        ids.sort();
        ids
    }

    pub(crate) async fn until_synced(&mut self) {
        self.until("synced", |watching| watching.state() == State::Synced).await;
    }

    pub(crate) async fn until_members(&mut self, service: &str, count: usize) {
        let what = format!("{service} has {count} members");
        self.until(&what, |watching| watching.members(service).len() == count).await;
    }
}
