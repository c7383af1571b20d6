//! Ingestion with scripted registries, in paused time.

mod changes;

use std::time::Duration;

use futures::stream::{self, BoxStream};
use weft_model::{Entry, EntryKey, Health, RegistryEvent, Scope, Service, Workload};
use weft_registry::{RegistryError, Reread, State};

use super::*;
use crate::publish::{Readers, channel};

/// A registry that says what the test says.
struct Scripted {
    id: RegistryId,
    said: mpsc::Receiver<Result<RegistryEvent, RegistryError>>,
}

impl Registry for Scripted {
    fn id(&self) -> &RegistryId {
        &self.id
    }
    fn watch(self: Box<Self>, _: Reread) -> BoxStream<'static, Result<RegistryEvent, RegistryError>> {
        stream::unfold(self.said, |mut said| async move { said.recv().await.map(|item| (item, said)) })
            .boxed()
    }
}

struct Running {
    say: mpsc::Sender<Result<RegistryEvent, RegistryError>>,
    readers: Readers,
    phase: watch::Sender<Phase>,
    task: tokio::task::JoinHandle<()>,
    directory: tempfile::TempDir,
}

fn start(directory: tempfile::TempDir, identity: SvidSource) -> Running {
    start_with(directory, identity, false, mpsc::channel(1).1)
}

fn start_with(
    directory: tempfile::TempDir,
    identity: SvidSource,
    awaits_more: bool,
    changes: mpsc::Receiver<RegistryChange>,
) -> Running {
    let (say, said) = mpsc::channel(16);
    let registry = Box::new(Scripted { id: id(), said });
    let followed = Followed {
        registry,
        required: true,
        mapping: Mapping::default(),
        supervise: SuperviseSettings::default(),
    };
    let (publisher, readers) = channel();
    let (phase, phases) = watch::channel(Phase::Starting);
    let last_known = LastKnown::new(directory.path().join("registries"));
    let ingest = Ingest::new(vec![followed], publisher, identity, last_known, awaits_more);
    Running { say, readers, phase, task: tokio::spawn(ingest.run(phases, changes)), directory }
}

fn id() -> RegistryId {
    "consul/dc1".parse().unwrap()
}

fn service(name: &str) -> Entry {
    Entry::Service(Service {
        key: name.parse().unwrap(),
        ports: Vec::new(),
        labels: BTreeMap::new(),
        addresses: Default::default(),
        prefer: None,
    })
}

fn workload(name: &str, health: Health) -> Entry {
    Entry::from(Workload {
        id: format!("consul/dc1/n/{name}").parse().unwrap(),
        services: BTreeMap::from([("api".parse().unwrap(), Vec::new())]),
        addresses: vec![[10, 0, 0, 1].into()],
        network: weft_model::Network::default_network(),
        identity: None,
        tunnel: weft_model::Tunnel::None,
        captured: false,
        locality: weft_model::Locality::default(),
        node: None,
        weight: 100,
        health,
        labels: BTreeMap::new(),
        provenance: std::collections::BTreeSet::new(),
    })
}

impl Running {
    async fn says(&self, event: RegistryEvent) {
        self.say.send(Ok(event)).await.unwrap();
    }

    async fn lists(&self, entries: Vec<Entry>) {
        self.says(RegistryEvent::Reset { scope: Scope::All, entries }).await;
    }

    /// Waits for a publication in which `holds` is true, and says how long that took.
    async fn published(&mut self, holds: impl Fn(&Publication) -> bool) -> Duration {
        let start = Instant::now();
        let waiting = self.readers.state.wait_for(|publication| holds(publication));
        let _found =
            tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("published").unwrap();
        start.elapsed()
    }

    async fn stop(self) -> tempfile::TempDir {
        self.phase.send_replace(Phase::Stopping);
        self.task.await.unwrap();
        self.directory
    }
}

fn running() -> Running {
    start(tempfile::tempdir().unwrap(), SvidSource::new())
}

#[tokio::test(start_paused = true)]
async fn updates_wait_for_company_and_a_removal_does_not() {
    let mut running = running();
    running.lists(Vec::new()).await;
    running.published(|p| p.resources.is_complete()).await;
    running.says(RegistryEvent::Upsert(vec![workload("a", Health::Healthy)])).await;
    let update = running.published(|p| p.snapshot.workload_count() == 1).await;
    assert!(update >= Duration::from_millis(9), "{update:?}");
    running.says(RegistryEvent::Upsert(vec![workload("a", Health::Unhealthy)])).await;
    let removal = running.published(|p| p.snapshot.workloads().all(|w| !w.health.takes_new_work())).await;
    assert_eq!(removal, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn who_reads_that_a_registry_has_synced_finds_what_it_said() {
    let running = running();
    let mut reports = running.readers.reports.clone();
    running.lists(vec![service("api")]).await;
    let synced = |reports: &Reports| reports.values().all(|report| report.freshness.has_synced());
    let entries = reports.wait_for(synced).await.unwrap().get(&id()).unwrap().entries;
    assert_eq!(entries, 1);
    assert_eq!(running.readers.state.borrow().snapshot.service_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_error_removes_nothing_and_is_reported() {
    let mut running = running();
    running.lists(vec![service("api")]).await;
    running.published(|p| p.snapshot.service_count() == 1).await;
    running.say.send(Err(RegistryError::source_down("connection refused"))).await.unwrap();
    let mut reports = running.readers.reports.clone();
    let stale = |reports: &Reports| reports.values().any(|report| report.freshness.state == State::Stale);
    let _found = reports.wait_for(stale).await.unwrap();
    assert_eq!(running.readers.state.borrow().snapshot.service_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_with_what_a_silent_registry_said_last() {
    let mut running = running();
    running.lists(vec![service("api"), service("shop/web"), workload("a", Health::Healthy)]).await;
    running.published(|p| p.snapshot.service_count() == 2).await;
    running.says(RegistryEvent::Remove(vec![EntryKey::Service("shop/web".parse().unwrap())])).await;
    running.published(|p| p.snapshot.service_count() == 1).await;
    let directory = running.stop().await;

    let mut restarted = start(directory, SvidSource::new());
    assert_eq!(restarted.readers.state.borrow().snapshot.service_count(), 1, "before it said anything");
    assert_eq!(restarted.readers.state.borrow().snapshot.workload_count(), 1);
    assert!(!restarted.readers.reports.borrow().get(&id()).unwrap().freshness.has_synced());
    // Its first listing replaces all of it.
    restarted.lists(vec![service("other")]).await;
    restarted.published(|p| p.snapshot.workload_count() == 0 && p.snapshot.service_count() == 1).await;
    assert!(restarted.readers.state.borrow().snapshot.service(&"other".parse().unwrap()).is_some());
}

#[tokio::test(start_paused = true)]
async fn what_is_published_is_complete_once_the_registry_has_listed_or_left_what_it_had_listed() {
    let mut running = running();
    assert!(!running.readers.state.borrow().resources.is_complete());
    running.says(RegistryEvent::Upsert(vec![service("api")])).await;
    running.published(|p| p.snapshot.service_count() == 1).await;
    assert!(!running.readers.state.borrow().resources.is_complete(), "a part is not all");
    assert!(running.readers.reports.borrow().get(&id()).unwrap().unheard);
    // A part is not stored either: the next process would take it for all.
    let mut restarted = start(running.stop().await, SvidSource::new());
    assert_eq!(restarted.readers.state.borrow().snapshot.service_count(), 0);
    assert!(!restarted.readers.state.borrow().resources.is_complete());
    // That it holds nothing is said and stored, too, though nothing changes.
    restarted.lists(Vec::new()).await;
    assert_eq!(restarted.published(|p| p.resources.is_complete()).await, Duration::ZERO);
    let again = start(restarted.stop().await, SvidSource::new());
    assert!(again.readers.state.borrow().resources.is_complete());
}

#[tokio::test(start_paused = true)]
async fn a_first_listing_after_a_restart_that_lacks_most_of_what_was_stored_is_held() {
    let mut running = running();
    let all = ["a", "b", "c"].map(|name| workload(name, Health::Healthy));
    running.lists(all.to_vec()).await;
    running.published(|p| p.snapshot.workload_count() == 3 && p.resources.is_complete()).await;
    let mut restarted = start(running.stop().await, SvidSource::new());
    restarted.lists(Vec::new()).await;
    let mut reports = restarted.readers.reports.clone();
    let held = |reports: &Reports| reports.values().all(|report| report.freshness.held_reset.is_some());
    // Not bound to a name: what it returns locks the writer out.
    let is_held = tokio::time::timeout(Duration::from_secs(60), reports.wait_for(held)).await.is_ok();
    assert!(is_held, "{:?}", restarted.readers.reports.borrow());
    assert_eq!(restarted.readers.state.borrow().snapshot.workload_count(), 3);
    // An empty registry is believed only after `confirm_empty_after`.
    tokio::time::sleep(Duration::from_secs(601)).await;
    restarted.lists(Vec::new()).await;
    restarted.published(|p| p.snapshot.workload_count() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn the_same_said_again_publishes_nothing() {
    let mut running = running();
    running.lists(vec![service("api")]).await;
    running.published(|p| p.snapshot.service_count() == 1).await;
    let sequence = running.readers.state.borrow().resources.sequence();
    running.lists(vec![service("api")]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(running.readers.state.borrow().resources.sequence(), sequence);
}

#[tokio::test(start_paused = true)]
async fn a_new_trust_bundle_is_published_without_any_change_of_the_catalog() {
    weft_identity::install_crypto_provider();
    let authority = weft_identity::testkit::TestAuthority::new("mesh.test");
    let identity = SvidSource::new();
    identity.set(authority.svid("/a"), authority.bundles());
    let mut running = start(tempfile::tempdir().unwrap(), identity.clone());
    let first = running.readers.state.borrow().resources.resources.bundle("mesh.test").unwrap().clone();
    identity.set_bundles(weft_identity::testkit::TestAuthority::new("mesh.test").bundles());
    let replaced =
        |p: &Publication| p.resources.resources.bundle("mesh.test").is_some_and(|bundle| *bundle != first);
    running.published(replaced).await;
}
