//! Client and server state machines against each other, with random changes, delays, refusals, reconnects and restarts,
//! also into a process that has not heard one of its two registries yet: that one takes nothing away until it has.
//!
//! When everything is delivered the client holds what the server shows it, but for what it refused. The messages go
//! through two queues that are delivered in any interleaving, each in its own order, as on a connection.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod check;
mod steps;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use proptest::prelude::*;
use weft_model::{
    Catalog, Changes, Entry, EntryKey, Health, Network, NetworkAddress, RegistryEvent, RegistryId, Scope,
    Service, ServiceKey, Tunnel, Workload,
};
use weft_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Status};
use weft_proto::{Address, ResourceType, TrustBundle};
use weft_xds::{Published, Stream, StreamSettings};
use weft_xds_client::{Client, Members, Update};

use steps::{POISON, Step, calm_step, step};

fn heard() -> RegistryId {
    "consul/dc1".parse().unwrap()
}

/// The registry that some servers have not heard. It holds what has an odd number.
fn silent() -> RegistryId {
    "consul/dc2".parse().unwrap()
}

fn registry_of(n: usize) -> RegistryId {
    if n.is_multiple_of(2) { heard() } else { silent() }
}

struct World {
    /// What the registries hold.
    truth: Catalog,
    /// What the server heard of it.
    catalog: Catalog,
    unheard: bool,
    /// Workloads that the heard registry changed since the server started.
    changed_since_start: BTreeSet<String>,
    bundle: u8,
    published: Published,
    stream: Stream,
    settings: StreamSettings,
    client: Client,
    wanted: BTreeSet<ServiceKey>,
    wanted_addresses: BTreeSet<NetworkAddress>,
    to_server: VecDeque<DeltaDiscoveryRequest>,
    to_client: VecDeque<DeltaDiscoveryResponse>,
    refuse_whole: bool,
    /// What a proxy makes of the updates.
    services: BTreeMap<ServiceKey, Option<Members>>,
    addresses: BTreeMap<NetworkAddress, Option<Arc<Address>>>,
    bundles: Option<Vec<TrustBundle>>,
    /// Per type and name: how often its resource changed, and how often one was sent.
    changed: HashMap<(ResourceType, String), usize>,
    sent: HashMap<(ResourceType, String), usize>,
    /// On this stream: the version that was sent last, until its removal.
    last_sent: HashMap<(ResourceType, String), String>,
}

impl World {
    fn new(max_response: usize) -> Self {
        let settings = StreamSettings { max_response, ..StreamSettings::default() };
        let mut client = Client::new("spiffe://mesh.test/ns/default/sa/web~web-1", "test/1");
        let mut world = Self {
            truth: Catalog::new(BTreeMap::new()),
            catalog: Catalog::new(BTreeMap::new()),
            unheard: false,
            changed_since_start: BTreeSet::new(),
            bundle: 0,
            published: Published::default(),
            stream: Stream::new(settings),
            settings,
            to_server: client.on_connected().into(),
            client,
            wanted: BTreeSet::new(),
            wanted_addresses: BTreeSet::new(),
            to_client: VecDeque::new(),
            refuse_whole: false,
            services: BTreeMap::new(),
            addresses: BTreeMap::new(),
            bundles: None,
            changed: HashMap::new(),
            sent: HashMap::new(),
            last_sent: HashMap::new(),
        };
        world.publish(0, RegistryEvent::Upsert(Vec::new()));
        world
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::SetWorkload { n, services, weight } => {
                let workload = workload(n, &services, weight);
                self.publish(n, RegistryEvent::Upsert(vec![Entry::from(workload)]));
            }
            Step::RemoveWorkload(n) => {
                let key = EntryKey::Workload(format!("vm/{n}").parse().unwrap());
                self.publish(n, RegistryEvent::Remove(vec![key]));
            }
            Step::Declare(n) => {
                let addresses = [address(n)].into();
                let service = Service { addresses, ..Service::undeclared(key(n)) };
                self.publish(n, RegistryEvent::Upsert(vec![Entry::Service(service)]));
            }
            Step::Undeclare(n) => self.publish(n, RegistryEvent::Remove(vec![EntryKey::Service(key(n))])),
            Step::Bundle(root) => {
                self.bundle = root;
                self.publish(0, RegistryEvent::Upsert(Vec::new()));
            }
            Step::Subscribe(n) => {
                self.wanted.insert(key(n));
                self.to_server.extend(self.client.subscribe(key(n)));
            }
            Step::Unsubscribe(n) => {
                self.wanted.remove(&key(n));
                self.services.remove(&key(n));
                self.to_server.extend(self.client.unsubscribe(&key(n)));
            }
            Step::WantAddress(n) => {
                self.wanted_addresses.insert(address(n));
                self.to_server.extend(self.client.subscribe_address(address(n)));
            }
            Step::ForgetAddress(n) => {
                self.wanted_addresses.remove(&address(n));
                self.addresses.remove(&address(n));
                self.to_server.extend(self.client.unsubscribe_address(&address(n)));
            }
            Step::ToServer(count) => (0..count).for_each(|_| self.serve_one()),
            Step::ToClient(count) => (0..count).for_each(|_| self.apply_one()),
            Step::RefuseWhole => self.refuse_whole = true,
            Step::Reconnect { restarted } => self.reconnect(restarted),
            Step::RestartUnheard => self.restart_unheard(),
            Step::Listed => self.list(),
        }
    }

    /// The registry of `n` says something.
    fn publish(&mut self, n: usize, event: RegistryEvent) {
        let registry = registry_of(n);
        self.truth.apply(&registry, event.clone());
        if !self.unheard || registry == heard() {
            self.serve(&registry, event);
        }
    }

    /// The server hears it.
    fn serve(&mut self, registry: &RegistryId, event: RegistryEvent) {
        let changes = self.catalog.apply(registry, event);
        let before = self.published.sequence();
        self.published = self.published.advance(&self.catalog.snapshot(), &changes, &self.bundle());
        for changed in self.published.since(before).unwrap() {
            let workloads = changed.workloads.iter().map(|workload| (ResourceType::Workload, &workload.name));
            let services = changed.services.iter().map(|name| (ResourceType::Service, name));
            let bundles = changed.bundles.iter().map(|name| (ResourceType::TrustBundle, name));
            for (kind, name) in workloads.chain(services).chain(bundles) {
                *self.changed.entry((kind, name.to_string())).or_default() += 1;
                self.changed_since_start.insert(name.to_string());
            }
            for address in &changed.addresses {
                *self.changed.entry((ResourceType::Address, address.to_string())).or_default() += 1;
            }
        }
        let responses = self.stream.on_published(&self.published);
        self.send(responses);
    }

    fn bundle(&self) -> Vec<TrustBundle> {
        let roots = vec![vec![0x30, self.bundle].into()];
        vec![TrustBundle { trust_domain: "mesh.test".parse().unwrap(), roots }]
    }

    fn list(&mut self) {
        if std::mem::take(&mut self.unheard) {
            self.published = std::mem::take(&mut self.published).all_heard();
            let entries = self.truth.entries(&silent());
            self.serve(&silent(), RegistryEvent::Reset { scope: Scope::All, entries });
        }
    }

    fn serve_one(&mut self) {
        let Some(request) = self.to_server.pop_front() else { return };
        let responses = self.stream.on_request(request, &self.published).unwrap();
        self.send(responses);
    }

    fn send(&mut self, responses: Vec<DeltaDiscoveryResponse>) {
        for response in responses {
            self.note(&response);
            self.to_client.push_back(response);
        }
    }

    /// What holds for every response, whatever else happens.
    fn note(&mut self, response: &DeltaDiscoveryResponse) {
        let kind = ResourceType::from_url(&response.type_url).unwrap();
        let mut names = BTreeSet::new();
        for resource in &response.resources {
            assert!(names.insert(&resource.name), "{} twice in a response", resource.name);
            *self.sent.entry((kind, resource.name.clone())).or_default() += 1;
            self.last_sent.insert((kind, resource.name.clone()), resource.version.clone());
            if kind == ResourceType::Service {
                self.check_listed(&resource.name);
            }
        }
        for name in &response.removed_resources {
            assert!(names.insert(name), "{name} twice in a response");
            let may_go =
                !self.unheard || (kind == ResourceType::Workload && self.changed_since_start.contains(name));
            assert!(may_go, "{kind} {name} was taken away by a server that had not heard everything");
            self.last_sent.remove(&(kind, name.clone()));
        }
    }

    /// A client that has the service has all its workloads: they were sent before on this stream, or reported as held
    /// when it was opened.
    fn check_listed(&self, service: &str) {
        let refused: Vec<String> = self.refused(ResourceType::Workload).into_iter().collect();
        for member in self.published.resources.members(service) {
            let version = self.published.resources.workload(member).unwrap().version.to_string();
            let sent = self.last_sent.get(&(ResourceType::Workload, member.to_string()));
            assert!(
                sent == Some(&version) || refused.contains(&member.to_string()),
                "{service} was sent before its workload {member}"
            );
        }
    }

    fn apply_one(&mut self) {
        let Some(mut response) = self.to_client.pop_front() else { return };
        if std::mem::take(&mut self.refuse_whole) {
            let status = Status { code: 3, message: "refused".to_owned(), details: Vec::new() };
            self.to_server.push_back(DeltaDiscoveryRequest {
                type_url: response.type_url,
                response_nonce: response.nonce,
                error_detail: Some(status),
                ..Default::default()
            });
            return;
        }
        for resource in &mut response.resources {
            let body = resource.resource.as_mut().unwrap();
            let poisoned = body.type_url == ResourceType::Workload.url()
                && weft_proto::workload(&resource.name, body.value.clone()).unwrap().weight == POISON;
            if poisoned {
                body.value = vec![0xff].into();
            }
        }
        let applied = self.client.on_response(response);
        self.to_server.push_back(applied.request);
        applied.updates.into_iter().for_each(|update| self.update(update));
    }

    fn update(&mut self, update: Update) {
        match update {
            Update::ServicePresent { service, workloads } => {
                assert!(self.wanted.contains(&service.key), "an update of an unwanted service");
                self.services.insert(service.key.clone(), Some(workloads));
            }
            Update::ServiceAbsent(key) => {
                assert!(self.wanted.contains(&key), "an update of an unwanted service");
                self.services.insert(key, None);
            }
            Update::AddressOwned(owned) => {
                assert!(self.wanted_addresses.contains(&owned.address), "an update of an unwanted address");
                self.addresses.insert(owned.address.clone(), Some(owned));
            }
            Update::AddressFree(address) => {
                assert!(self.wanted_addresses.contains(&address), "an update of an unwanted address");
                self.addresses.insert(address, None);
            }
            Update::Bundles(bundles) => self.bundles = Some(bundles),
        }
    }

    fn restart_unheard(&mut self) {
        self.unheard = true;
        self.changed_since_start.clear();
        self.catalog = Catalog::new(BTreeMap::new());
        let entries = self.truth.entries(&heard());
        let changes = self.catalog.apply(&heard(), RegistryEvent::Upsert(entries));
        self.published = Published::unheard().advance(&self.catalog.snapshot(), &changes, &self.bundle());
        self.connect();
    }

    fn reconnect(&mut self, restarted: bool) {
        // What a server stored was complete, so that one that restarts from it is.
        if restarted && !self.unheard {
            let snapshot = self.catalog.snapshot();
            let all = Changes {
                services: snapshot.services().map(|service| service.key.clone()).collect(),
                workloads: snapshot.workloads().map(|workload| workload.id.clone()).collect(),
                urgent: false,
            };
            self.published = Published::default().advance(&snapshot, &all, &self.bundle());
        }
        self.connect();
    }

    fn connect(&mut self) {
        self.client.on_disconnected();
        self.to_client.clear();
        self.stream = Stream::new(self.settings);
        let requests = self.client.on_connected();
        self.last_sent.clear();
        for request in &requests {
            let kind = ResourceType::from_url(&request.type_url).unwrap();
            for (name, version) in &request.initial_resource_versions {
                self.last_sent.insert((kind, name.clone()), version.clone());
            }
        }
        self.to_server = requests.into();
    }

    /// Delivers everything; then what was not heard is, and delivers that.
    fn settle(&mut self) {
        self.deliver();
        if self.unheard {
            self.check_heard();
            self.list();
            self.deliver();
        }
    }

    fn deliver(&mut self) {
        self.refuse_whole = false;
        for _ in 0..10_000 {
            if self.to_server.is_empty() && self.to_client.is_empty() {
                return;
            }
            self.serve_one();
            self.apply_one();
        }
        panic!("the two never come to rest");
    }
}

fn key(n: usize) -> ServiceKey {
    format!("default/s{n}").parse().unwrap()
}

/// Virtual addresses of the first services; the last one is only ever workloads'.
fn address(n: usize) -> NetworkAddress {
    format!("default/10.0.0.{}", n % steps::ADDRESSES + 1).parse().unwrap()
}

fn workload(n: usize, services: &[usize], weight: u32) -> Workload {
    Workload {
        id: format!("vm/{n}").parse().unwrap(),
        services: services.iter().map(|n| (key(*n), Vec::new())).collect(),
        addresses: vec![address(n).ip],
        network: Network::default_network(),
        identity: None,
        tunnel: Tunnel::None,
        captured: false,
        locality: Default::default(),
        node: None,
        weight,
        health: Health::Healthy,
        labels: BTreeMap::new(),
        provenance: Default::default(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn client_and_server_agree_whatever_happened(
        steps in prop::collection::vec(step(), 0..80),
        max_response in prop_oneof![Just(1_usize), Just(300), Just(1 << 20)],
    ) {
        let mut world = World::new(max_response);
        for step in steps {
            world.step(step);
        }
        world.settle();
        world.check_converged();
        // Once more, now without refusals, after a reconnect: at rest nothing is sent again but what was refused.
        let refused: usize = ResourceType::ALL.map(|kind| world.refused(kind).len()).iter().sum();
        world.reconnect(true);
        world.sent.clear();
        world.settle();
        world.check_converged();
        prop_assert!(world.sent.values().sum::<usize>() <= refused, "resent: {:?}", world.sent);
    }

    #[test]
    fn without_losses_no_more_is_sent_than_changed(
        steps in prop::collection::vec(calm_step(), 0..80),
        max_response in prop_oneof![Just(1_usize), Just(300), Just(1 << 20)],
    ) {
        let mut world = World::new(max_response);
        for step in steps {
            world.step(step);
        }
        world.settle();
        world.check_converged();
        for (name, sent) in &world.sent {
            let changed = world.changed.get(name).copied().unwrap_or(0);
            prop_assert!(*sent <= changed, "{name:?} changed {changed} times and was sent {sent} times");
        }
    }
}
