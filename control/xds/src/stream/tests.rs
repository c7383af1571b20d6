//! The rules D1 to D21 of the delta protocol, one scripted exchange each.

use std::collections::BTreeMap;

use prost::Message as _;
use weft_model::{Catalog, Entry, EntryKey, RegistryEvent, RegistryId, Workload};
use weft_proto::discovery::{Any, Status};
use weft_proto::mesh::v1::{ResourceError, ResourceErrors};
use weft_proto::{RESOURCE_ERRORS_URL, ResourceType as Type, TrustBundle};

use super::*;

/// A server with one stream.
struct World {
    catalog: Catalog,
    registry: RegistryId,
    bundles: Vec<TrustBundle>,
    published: Published,
    stream: Stream,
}

type Responses = Vec<DeltaDiscoveryResponse>;

impl World {
    fn new(workloads: &[(&str, &[&str])]) -> Self {
        let mut world = Self {
            catalog: Catalog::new(BTreeMap::new()),
            registry: "consul/dc1".parse().unwrap(),
            bundles: vec![bundle("mesh.test", 1)],
            published: Published::default(),
            stream: Stream::new(StreamSettings::default()),
        };
        world.publish(RegistryEvent::Upsert(Vec::new()));
        for (id, services) in workloads {
            world.set(id, services, 1);
        }
        world
    }

    fn publish(&mut self, event: RegistryEvent) -> Responses {
        let changes = self.catalog.apply(&self.registry, event);
        self.published = self.published.advance(&self.catalog.snapshot(), &changes, &self.bundles);
        self.stream.on_published(&self.published)
    }

    fn set(&mut self, id: &str, services: &[&str], weight: u32) -> Responses {
        self.publish(RegistryEvent::Upsert(vec![Entry::from(workload(id, services, weight))]))
    }

    fn remove(&mut self, id: &str) -> Responses {
        self.publish(RegistryEvent::Remove(vec![EntryKey::Workload(id.parse().unwrap())]))
    }

    fn set_bundles(&mut self, bundles: Vec<TrustBundle>) -> Responses {
        self.bundles = bundles;
        self.publish(RegistryEvent::Upsert(Vec::new()))
    }

    fn send(&mut self, request: DeltaDiscoveryRequest) -> Responses {
        self.stream.on_request(request, &self.published).unwrap()
    }

    fn fail(&mut self, request: DeltaDiscoveryRequest) -> StreamError {
        self.stream.on_request(request, &self.published).unwrap_err()
    }

    fn subscribe(&mut self, kind: Type, names: &[&str]) -> Responses {
        self.send(subscribe(kind, names))
    }

    fn unsubscribe(&mut self, kind: Type, names: &[&str]) -> Responses {
        self.send(DeltaDiscoveryRequest { resource_names_unsubscribe: owned(names), ..request(kind) })
    }

    fn ack(&mut self, response: &DeltaDiscoveryResponse) -> Responses {
        self.send(ack(response))
    }

    fn nack(&mut self, response: &DeltaDiscoveryResponse, names: &[&str]) -> Responses {
        let mut request = ack(response);
        let error = |name: &&str| ResourceError {
            resource_name: (*name).to_owned(),
            field_path: "weight".to_owned(),
            reason: "not understood".to_owned(),
        };
        let errors = ResourceErrors { errors: names.iter().map(error).collect() };
        request.error_detail = Some(Status {
            code: 3,
            message: "refused".to_owned(),
            details: vec![Any {
                type_url: RESOURCE_ERRORS_URL.to_owned(),
                value: errors.encode_to_vec().into(),
            }],
        });
        self.send(request)
    }

    /// Acknowledges everything until nothing comes any more.
    fn settle(&mut self, responses: Responses) {
        let mut open = std::collections::VecDeque::from(responses);
        while let Some(response) = open.pop_front() {
            open.extend(self.ack(&response));
        }
    }

    /// What a client of ours opens a stream with.
    fn listen(&mut self, services: &[&str]) -> Responses {
        let mut responses = self.subscribe(Type::TrustBundle, &["*"]);
        responses.extend(self.subscribe(Type::Workload, services));
        responses.extend(self.subscribe(Type::Service, services));
        responses
    }

    /// The same, with everything acknowledged.
    fn listening(&mut self, services: &[&str]) {
        for response in self.listen(services) {
            assert!(self.ack(&response).is_empty(), "an ACK needs no answer (D20)");
        }
        assert!(self.stream.status().in_sync);
    }

    /// The next process: another stream, and publications counted anew.
    fn restart(&mut self) {
        let (snapshot, all) = (self.catalog.snapshot(), all_of(&self.catalog));
        self.published = Published::default().advance(&snapshot, &all, &self.bundles);
        self.stream = Stream::new(StreamSettings::default());
    }

    /// The next process, which has not heard the registry yet and knows nothing of it. It says so to a new stream.
    fn restart_unheard(&mut self) {
        self.catalog = Catalog::new(BTreeMap::new());
        self.published = Published::unheard();
        self.stream = Stream::new(StreamSettings::default());
        self.publish(RegistryEvent::Upsert(Vec::new()));
    }

    fn all_heard(&mut self) -> Responses {
        self.published = std::mem::take(&mut self.published).all_heard();
        self.publish(RegistryEvent::Upsert(Vec::new()))
    }

    /// The client reconnects to the same process.
    fn restart_stream(&mut self) {
        self.stream = Stream::new(StreamSettings::default());
    }

    fn undecided(&self) -> Vec<usize> {
        self.stream.status().types.iter().map(|one| one.undecided).collect()
    }

    fn version(&self, kind: Type, name: &str) -> String {
        let resources = &self.published.resources;
        let resource = match kind {
            Type::TrustBundle => resources.bundle(name),
            Type::Workload => resources.workload(name),
            Type::Service => resources.service(name),
        };
        resource.unwrap().version.to_string()
    }
}

fn all_of(catalog: &Catalog) -> weft_model::Changes {
    let snapshot = catalog.snapshot();
    weft_model::Changes {
        services: snapshot.services().map(|service| service.key.clone()).collect(),
        workloads: snapshot.workloads().map(|workload| workload.id.clone()).collect(),
        urgent: false,
    }
}

fn workload(id: &str, services: &[&str], weight: u32) -> Workload {
    Workload {
        id: id.parse().unwrap(),
        services: services.iter().map(|name| (name.parse().unwrap(), Vec::new())).collect(),
        addresses: vec!["10.0.0.1".parse().unwrap()],
        network: weft_model::Network::default_network(),
        identity: None,
        tunnel: weft_model::Tunnel::Port(15008),
        locality: Default::default(),
        weight,
        health: weft_model::Health::Healthy,
        labels: BTreeMap::new(),
        provenance: Default::default(),
    }
}

fn bundle(name: &str, root: u8) -> TrustBundle {
    TrustBundle { trust_domain: name.parse().unwrap(), roots: vec![vec![0x30, root].into()] }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn request(kind: Type) -> DeltaDiscoveryRequest {
    let id = "spiffe://mesh.test/ns/default/sa/web~web-1".to_owned();
    let node = Node { id, user_agent_name: "weft-proxy".to_owned(), ..Default::default() };
    DeltaDiscoveryRequest { node: Some(node), type_url: kind.url().to_owned(), ..Default::default() }
}

fn subscribe(kind: Type, names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { resource_names_subscribe: owned(names), ..request(kind) }
}

fn ack(response: &DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        ..Default::default()
    }
}

/// `Type+name` for each resource and `Type-name` for each removal, in the order sent.
fn told(responses: &[DeltaDiscoveryResponse]) -> Vec<String> {
    let mut told = Vec::new();
    for response in responses {
        let kind = Type::from_url(&response.type_url).unwrap();
        told.extend(response.resources.iter().map(|resource| format!("{kind}+{}", resource.name)));
        told.extend(response.removed_resources.iter().map(|name| format!("{kind}-{name}")));
    }
    told
}

#[test]
fn a_request_without_type_with_an_unknown_type_or_without_node_ends_the_stream() {
    let mut world = World::new(&[]);
    let no_type = DeltaDiscoveryRequest { type_url: String::new(), ..request(Type::Service) };
    assert_eq!(world.fail(no_type), StreamError::EmptyTypeUrl);
    let cluster = "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned();
    let unknown = DeltaDiscoveryRequest { type_url: cluster.clone(), ..request(Type::Service) };
    assert_eq!(world.fail(unknown), StreamError::UnknownType(cluster));
    let mut world = World::new(&[]);
    let nobody = DeltaDiscoveryRequest { node: None, ..request(Type::Service) };
    assert_eq!(world.fail(nobody), StreamError::NodeMissing);
    let bad = Node { id: "web".to_owned(), ..Default::default() };
    let bad = world.fail(DeltaDiscoveryRequest { node: Some(bad), ..request(Type::Service) });
    assert_eq!((bad.code(), world.stream.node()), (3, None));
}

#[test]
fn d2_only_the_first_request_needs_a_node_and_later_ones_change_nothing() {
    let mut world = World::new(&[]);
    world.subscribe(Type::Service, &["default/api"]);
    let other = Node { id: "spiffe://mesh.test/ns/default/sa/other~x".to_owned(), ..Default::default() };
    world.send(DeltaDiscoveryRequest { node: Some(other), ..subscribe(Type::Service, &["default/b"]) });
    world.send(DeltaDiscoveryRequest { node: None, ..subscribe(Type::Service, &["default/c"]) });
    assert_eq!(world.stream.node().unwrap().instance(), "web-1");
}

#[test]
fn d1_the_types_are_independent_and_go_out_roots_first_and_services_last() {
    let mut world = World::new(&[("vm/a", &["api"])]);
    let told = told(&world.listen(&["default/api"]));
    assert_eq!(told, ["TrustBundle+mesh.test", "Workload+vm/a", "Service+default/api"]);
}

#[test]
fn d3_d4_subscriptions_count_also_beside_an_ack_and_a_stale_nonce() {
    let mut world = World::new(&[("vm/a", &["api"]), ("vm/b", &["web"])]);
    let first = world.subscribe(Type::Service, &["default/api"]);
    let both = DeltaDiscoveryRequest { resource_names_subscribe: owned(&["default/web"]), ..ack(&first[0]) };
    assert_eq!(told(&world.send(both)), ["Service+default/web"]);
    // The nonce of the first response again, while the second is under way.
    let stale =
        DeltaDiscoveryRequest { resource_names_subscribe: owned(&["default/none"]), ..ack(&first[0]) };
    assert!(world.send(stale).is_empty(), "one response at a time");
    let status = world.stream.status();
    assert_eq!((status.types[2].subscribed, status.types[2].waiting), (3, 1));
}

#[test]
fn a_stale_nonce_acknowledges_nothing() {
    let mut world = World::new(&[("vm/a", &["api"])]);
    let first = world.subscribe(Type::Service, &["default/api"]);
    let wrong = DeltaDiscoveryRequest { response_nonce: "999".to_owned(), ..ack(&first[0]) };
    world.send(wrong);
    assert!(world.stream.status().types[2].in_flight_revision.is_some());
}

#[test]
fn at_most_one_response_is_under_way_and_the_newest_state_follows_it() {
    let mut world = World::new(&[("vm/a", &["api"])]);
    let first = world.subscribe(Type::Workload, &["default/api"]);
    for weight in 2..100 {
        assert!(world.set("vm/a", &["api"], weight).is_empty());
        world.set("vm/b", &["api"], weight);
    }
    world.remove("vm/b");
    let second = world.ack(&first[0]);
    assert_eq!(told(&second), ["Workload+vm/a"], "what came and went meanwhile is nobody's news");
    assert_eq!(second[0].resources[0].version, world.version(Type::Workload, "vm/a"));
    assert!(world.ack(&second[0]).is_empty());
}

#[test]
fn d5_without_detail_a_nack_refuses_all_and_the_same_bytes_are_not_sent_again() {
    let mut world = World::new(&[("vm/a", &["api"]), ("vm/b", &["api"])]);
    let first = world.subscribe(Type::Workload, &["default/api"]);
    assert!(world.nack(&first[0], &[]).is_empty());
    let status = world.stream.status();
    assert!(!status.in_sync);
    assert_eq!(status.types[1].refused.len(), 2);
    assert_eq!(status.types[1].refused[0].reason, "refused");
    assert!(world.set("vm/c", &["web"], 1).is_empty());
    let second = world.set("vm/a", &["api"], 2);
    assert_eq!(told(&second), ["Workload+vm/a"]);
    world.settle(second);
    let refused = world.stream.status().types[1].refused.clone();
    assert_eq!(refused.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["vm/b"]);
}

#[test]
fn d5_with_detail_a_nack_refuses_what_it_names_and_the_rest_counts() {
    let mut world = World::new(&[("vm/a", &["api"]), ("vm/b", &["api"])]);
    let first = world.subscribe(Type::Workload, &["default/api"]);
    assert!(world.nack(&first[0], &["vm/b"]).is_empty());
    let status = &world.stream.status().types[1];
    assert_eq!((status.held, status.refused.len()), (1, 1));
    let refused = &status.refused[0];
    assert_eq!((refused.name.as_str(), refused.field_path.as_str()), ("vm/b", "weight"));
    assert_eq!(refused.version.as_deref(), Some(world.version(Type::Workload, "vm/b").as_str()));
    // A new subscription asks for it once more.
    let again = world.subscribe(Type::Workload, &["default/api"]);
    assert_eq!(told(&again), ["Workload+vm/a", "Workload+vm/b"]);
}

#[test]
fn a_refused_resource_that_returns_to_what_the_client_holds_is_in_sync_without_a_word() {
    let mut world = World::new(&[("vm/a", &["api"])]);
    world.listening(&["default/api"]);
    let bad = world.set("vm/a", &["api"], 2);
    assert!(world.nack(&bad[0], &["vm/a"]).is_empty());
    assert!(!world.stream.status().in_sync);
    assert!(world.set("vm/a", &["api"], 1).is_empty());
    assert!(world.stream.status().in_sync);
}

#[test]
fn a_refused_resource_that_goes_away_is_removed() {
    let mut world = World::new(&[("vm/a", &["api"]), ("vm/b", &["api"])]);
    world.listening(&["default/api"]);
    let bad = world.set("vm/a", &["api"], 2);
    world.nack(&bad[0], &["vm/a"]);
    let gone = world.remove("vm/a");
    assert_eq!(told(&gone), ["Workload-vm/a"]);
    world.ack(&gone[0]);
    assert!(world.stream.status().in_sync);
}

#[test]
fn a_resource_refused_when_it_was_new_is_not_shown_as_refused_once_it_is_gone_or_given_up() {
    for given_up in [false, true] {
        let mut world = World::new(&[("vm/a", &["api"])]);
        world.listening(&["default/api"]);
        let bad = world.set("vm/b", &["api"], 2);
        world.nack(&bad[0], &["vm/b"]);
        assert!(!world.stream.status().in_sync);
        let said = match given_up {
            false => world.remove("vm/b"),
            true => world.unsubscribe(Type::Workload, &["default/api"]),
        };
        assert!(said.is_empty(), "the client holds nothing of it");
        assert!(world.stream.status().in_sync);
    }
}

#[test]
fn d7_what_is_asked_for_again_is_sent_again() {
    let mut world = World::new(&[("vm/a", &["api"])]);
    world.listening(&["default/api"]);
    assert_eq!(told(&world.subscribe(Type::Service, &["default/api"])), ["Service+default/api"]);
    assert_eq!(told(&world.subscribe(Type::Workload, &["default/api"])), ["Workload+vm/a"]);
    assert_eq!(told(&world.subscribe(Type::TrustBundle, &["*"])), ["TrustBundle+mesh.test"]);
}

#[test]
fn d8_d9_unsubscribing_is_silent_also_from_what_was_never_asked_for() {
    let mut world = World::new(&[("vm/a", &["api"])]);
    world.listening(&["default/api"]);
    assert!(world.unsubscribe(Type::Service, &["default/none", "default/api"]).is_empty());
    assert!(world.unsubscribe(Type::Workload, &["default/none", "default/api"]).is_empty());
    assert!(world.set("vm/a", &["api"], 2).is_empty());
    let status = world.stream.status();
    assert_eq!((status.types[1].held, status.types[2].held), (0, 0), "what is unsubscribed is forgotten");
    let again = world.subscribe(Type::Workload, &["default/api"]);
    assert_eq!(told(&again), ["Workload+vm/a"]);
}

#[test]
fn d9_a_name_that_the_wildcard_still_covers_is_answered_when_it_is_unsubscribed() {
    let mut world = World::new(&[]);
    let first = world.subscribe(Type::TrustBundle, &["*", "mesh.test", "other.test"]);
    assert_eq!(told(&first), ["TrustBundle+mesh.test", "TrustBundle-other.test"]);
    world.ack(&first[0]);
    let answer = world.unsubscribe(Type::TrustBundle, &["mesh.test", "other.test"]);
    assert_eq!(told(&answer), ["TrustBundle+mesh.test", "TrustBundle-other.test"]);
}

#[test]
fn d10_a_name_that_does_not_exist_is_answered_at_once_and_stays_subscribed() {
    let mut world = World::new(&[]);
    world.subscribe(Type::Workload, &["default/api"]);
    let absent = world.subscribe(Type::Service, &["default/api", "not a name"]);
    assert_eq!(told(&absent), ["Service-default/api", "Service-not a name"]);
    assert!(world.ack(&absent[0]).is_empty());
    assert!(world.set("vm/z", &["other"], 1).is_empty(), "told once");
    let appeared = world.set("vm/a", &["api"], 1);
    assert_eq!(told(&appeared), ["Workload+vm/a", "Service+default/api"]);
    world.settle(appeared);
    assert_eq!(told(&world.remove("vm/a")), ["Workload-vm/a", "Service-default/api"]);
}

#[test]
fn d11_an_empty_first_request_is_a_wildcard_for_trust_bundles_only() {
    let mut world = World::new(&[("vm/a", &["api"])]);
    let first = world.send(request(Type::TrustBundle));
    assert_eq!(told(&first), ["TrustBundle+mesh.test"]);
    assert!(world.send(request(Type::Workload)).is_empty());
    assert!(world.send(request(Type::Service)).is_empty());
    world.ack(&first[0]);
    let next = world.set_bundles(vec![bundle("mesh.test", 2), bundle("new.test", 1)]);
    assert_eq!(told(&next), ["TrustBundle+mesh.test", "TrustBundle+new.test"]);
    world.ack(&next[0]);
    assert!(world.unsubscribe(Type::TrustBundle, &["*"]).is_empty());
    assert!(world.set_bundles(vec![]).is_empty());
}

#[test]
fn d11_a_wildcard_that_is_taken_back_in_the_first_request_is_none() {
    let mut world = World::new(&[]);
    let nothing = DeltaDiscoveryRequest {
        resource_names_unsubscribe: owned(&["*"]),
        ..subscribe(Type::TrustBundle, &["*"])
    };
    assert!(world.send(nothing).is_empty());
    assert!(world.send(request(Type::TrustBundle)).is_empty(), "no legacy wildcard in a later request");
}

#[test]
fn a_wildcard_for_workloads_or_services_and_a_name_without_end_are_refused() {
    let mut world = World::new(&[]);
    for kind in [Type::Workload, Type::Service] {
        assert_eq!(world.fail(subscribe(kind, &["*"])), StreamError::Wildcard);
    }
    let long = "x".repeat(1025);
    assert_eq!(world.fail(subscribe(Type::Service, &[&long])), StreamError::NameTooLong(1025));
}

#[test]
fn more_subscriptions_than_allowed_end_the_stream() {
    let mut world = World::new(&[]);
    world.stream = Stream::new(StreamSettings { max_subscriptions: 2, ..StreamSettings::default() });
    world.subscribe(Type::Service, &["default/a", "default/b"]);
    world.unsubscribe(Type::Service, &["default/b"]);
    world.subscribe(Type::Service, &["default/c", "default/a"]);
    let error = world.fail(subscribe(Type::Service, &["default/d"]));
    assert_eq!((&error, error.code()), (&StreamError::TooManySubscriptions { limit: 2 }, 8));
}

fn reconnect(world: &World, kind: Type, names: &[&str], held: &[(&str, &str)]) -> DeltaDiscoveryRequest {
    let version = |(name, version): &(&str, &str)| {
        let version = if version.is_empty() { world.version(kind, name) } else { (*version).to_owned() };
        ((*name).to_owned(), version)
    };
    DeltaDiscoveryRequest {
        initial_resource_versions: held.iter().map(version).collect(),
        ..subscribe(kind, names)
    }
}

#[test]
fn d12_a_reconnect_sends_differences_and_removes_what_is_gone() {
    let mut world = World::new(&[("vm/a", &["api"]), ("vm/b", &["api"]), ("vm/c", &["api"])]);
    world.restart();
    let old = "0".repeat(32);
    let held = [("vm/a", ""), ("vm/b", old.as_str()), ("vm/gone", old.as_str())];
    let request = reconnect(&world, Type::Workload, &["default/api"], &held);
    assert_eq!(told(&world.send(request)), ["Workload+vm/b", "Workload+vm/c", "Workload-vm/gone"]);
    let held = [("default/api", ""), ("default/gone", old.as_str())];
    let request = reconnect(&world, Type::Service, &["default/api", "default/gone"], &held);
    assert_eq!(told(&world.send(request)), ["Service-default/gone"]);
    let request = reconnect(
        &world,
        Type::TrustBundle,
        &["*"],
        &[("mesh.test", "another make"), ("gone.test", "")][..1],
    );
    assert_eq!(told(&world.send(request)), ["TrustBundle+mesh.test"]);
}

#[test]
fn d12_a_reconnect_to_an_equal_server_sends_nothing() {
    let mut world = World::new(&[("vm/a", &["api"]), ("vm/b", &["api", "web"])]);
    world.restart();
    let request = reconnect(&world, Type::TrustBundle, &["*"], &[("mesh.test", "")]);
    assert!(world.send(request).is_empty());
    let request = reconnect(&world, Type::Workload, &["default/api"], &[("vm/a", ""), ("vm/b", "")]);
    assert!(world.send(request).is_empty());
    let request = reconnect(&world, Type::Service, &["default/api"], &[("default/api", "")]);
    assert!(world.send(request).is_empty());
    let status = world.stream.status();
    assert!(status.in_sync);
    assert_eq!(status.applied_revision, Some(world.published.revision.0));
}

#[test]
fn while_a_registry_is_unheard_nothing_that_a_client_holds_is_taken_away() {
    let mut world = World::new(&[("vm/a", &["api"]), ("vm/b", &["api"])]);
    let before = [("vm/a", world.version(Type::Workload, "vm/a")), ("vm/b", "0".repeat(32))];
    let held: Vec<_> = before.iter().map(|(name, version)| (*name, version.as_str())).collect();
    let service = world.version(Type::Service, "default/api");
    world.restart_unheard();
    let request = reconnect(&world, Type::Workload, &["default/api"], &held);
    assert!(world.send(request).is_empty());
    let request =
        reconnect(&world, Type::Service, &["default/api", "default/none"], &[("default/api", &service)]);
    assert!(world.send(request).is_empty(), "neither a removal nor an absence");
    assert_eq!(world.undecided(), [0, 2, 2]);
    assert!(world.stream.status().in_sync);
    // What is heard is sent, and changes nothing of the rest.
    assert!(world.set("vm/a", &["api"], 1).is_empty(), "the versions are the same");
    assert_eq!(world.undecided(), [0, 1, 1]);
    // Now it is known that there is no more.
    let decided = world.all_heard();
    assert_eq!(told(&decided), ["Workload-vm/b", "Service-default/none"]);
    world.settle(decided);
    assert_eq!(world.undecided(), [0, 0, 0]);
    assert!(world.all_heard().is_empty(), "told once");
}

#[test]
fn what_a_heard_registry_removes_goes_also_while_another_is_unheard() {
    let mut world = World::new(&[]);
    world.restart_unheard();
    world.set("vm/a", &["api"], 1);
    world.set("vm/b", &["api", "web"], 1);
    world.listening(&["default/api"]);
    assert_eq!(told(&world.remove("vm/a")), ["Workload-vm/a"]);
    world.restart_stream();
    // Also for a client that was away meanwhile.
    let old = "0".repeat(32);
    let held = [("vm/a", old.as_str()), ("vm/x", old.as_str())];
    let request = reconnect(&world, Type::Workload, &["default/api"], &held);
    let gone = world.send(request);
    assert_eq!(told(&gone), ["Workload+vm/b", "Workload-vm/a"]);
    world.settle(gone);
    let left = world.set("vm/b", &["web"], 1);
    assert_eq!(told(&left), ["Workload-vm/b"]);
    // The service may be in the other registry too: it stays, without endpoints of this one.
    world.settle(left);
    assert!(world.subscribe(Type::Service, &["default/api"]).is_empty());
    assert_eq!(world.undecided(), [0, 1, 1]);
    assert_eq!(told(&world.all_heard()), ["Workload-vm/x", "Service-default/api"]);
}

#[test]
fn what_is_asked_for_again_while_it_is_undecided_is_answered_when_it_is_decided() {
    let mut world = World::new(&[]);
    world.restart_unheard();
    assert!(world.subscribe(Type::Service, &["default/a", "default/b", "default/c"]).is_empty());
    assert!(world.subscribe(Type::Service, &["default/a"]).is_empty());
    assert!(world.unsubscribe(Type::Service, &["default/b"]).is_empty());
    let found = world.set("vm/c", &["c"], 1);
    assert_eq!(told(&found), ["Service+default/c"]);
    world.settle(found);
    assert_eq!(told(&world.all_heard()), ["Service-default/a"]);
}

#[test]
fn a_listing_given_up_while_a_held_workload_is_undecided_ends_as_the_client_holds_it() {
    let mut world = World::new(&[("vm/a", &["api", "web"])]);
    let held = world.version(Type::Workload, "vm/a");
    world.restart_unheard();
    let names = ["default/api", "default/web"];
    let request = reconnect(&world, Type::Workload, &names, &[("vm/a", &held)]);
    assert!(world.send(request).is_empty());
    // The client keeps it for the other listing, of which this process does not know.
    assert!(world.unsubscribe(Type::Workload, &["default/api"]).is_empty());
    assert_eq!(told(&world.all_heard()), ["Workload-vm/a"]);
}

#[test]
fn a_service_that_went_and_comes_back_is_never_called_absent_a_second_time() {
    let mut world = World::new(&[("vm/a", &["api"])]);
    world.listening(&["default/api"]);
    let gone = world.remove("vm/a");
    assert_eq!(told(&gone), ["Workload-vm/a", "Service-default/api"]);
    world.settle(gone);
    let back = world.set("vm/a", &["api"], 1);
    assert_eq!(told(&back), ["Workload+vm/a", "Service+default/api"]);
}

#[test]
fn d13_a_version_that_is_held_is_no_subscription() {
    let mut world = World::new(&[("vm/a", &["api"])]);
    let request = reconnect(&world, Type::Service, &["default/web"], &[("default/api", "")]);
    assert_eq!(told(&world.send(request)), ["Service-default/web"]);
    assert!(world.remove("vm/a").is_empty());
}

#[test]
fn versions_of_a_later_request_say_nothing() {
    let mut world = World::new(&[("vm/a", &["api"])]);
    world.send(request(Type::Service));
    let late = reconnect(&world, Type::Service, &["default/api"], &[("default/api", "")]);
    assert_eq!(told(&world.send(late)), ["Service+default/api"]);
}

#[test]
fn d14_a_first_version_instead_of_the_last_costs_one_resend() {
    let mut world = World::new(&[("vm/a", &["api"])]);
    let first = world.version(Type::Workload, "vm/a");
    world.set("vm/a", &["api"], 2);
    let request = reconnect(&world, Type::Workload, &["default/api"], &[("vm/a", first.as_str())]);
    assert_eq!(told(&world.send(request)), ["Workload+vm/a"]);
}

#[test]
fn d15_no_response_has_a_name_twice_whatever_was_asked_for() {
    let mut world = World::new(&[("vm/a", &["api", "web"]), ("vm/b", &["api"])]);
    let names = ["default/api", "default/web", "default/api"];
    let told = told(&world.subscribe(Type::Workload, &names));
    assert_eq!(told, ["Workload+vm/a", "Workload+vm/b"]);
}

#[test]
fn d16_one_endpoint_of_many_is_one_resource() {
    let ids: Vec<String> = (0..1000).map(|n| format!("vm/{n:03}")).collect();
    let workloads: Vec<(&str, &[&str])> = ids.iter().map(|id| (id.as_str(), &["api"][..])).collect();
    let mut world = World::new(&workloads);
    world.listening(&["default/api"]);
    let change = world.set("vm/500", &["api"], 7);
    assert_eq!(told(&change), ["Workload+vm/500"]);
    assert!(change[0].encoded_len() < 400, "{} bytes", change[0].encoded_len());
    assert_eq!(change[0].system_version_info, world.published.revision.to_string());
}

#[test]
fn d21_large_listings_are_split_and_the_service_waits_for_the_last_part() {
    let ids: Vec<String> = (0..100).map(|n| format!("vm/{n:03}")).collect();
    let workloads: Vec<(&str, &[&str])> = ids.iter().map(|id| (id.as_str(), &["api"][..])).collect();
    let mut world = World::new(&workloads);
    world.stream = Stream::new(StreamSettings { max_response: 4096, ..StreamSettings::default() });
    let first = world.listen(&["default/api", "default/none"]);
    assert_eq!(first.len(), 3, "roots, a part of the workloads, and the service without workloads");
    assert_eq!(told(&first[2..]), ["Service-default/none"]);
    let mut all = told(&first);
    let mut responses = first;
    while let Some(response) = responses.pop() {
        assert!(response.encoded_len() < 5000);
        let next = world.ack(&response);
        all.extend(told(&next));
        responses.extend(next);
    }
    assert_eq!(all.len(), 1 + 100 + 2);
    assert_eq!(all.last().unwrap(), "Service+default/api");
    assert!(world.stream.status().in_sync);
}

#[test]
fn a_removal_goes_with_the_next_response_however_full_it_is() {
    let ids: Vec<String> = (0..100).map(|n| format!("vm/{n:03}")).collect();
    let workloads: Vec<(&str, &[&str])> = ids.iter().map(|id| (id.as_str(), &["api"][..])).collect();
    let mut world = World::new(&workloads);
    world.stream = Stream::new(StreamSettings { max_response: 4096, ..StreamSettings::default() });
    let start = world.listen(&["default/api"]);
    world.settle(start);
    let first = world.set("vm/000", &["api"], 2);
    for id in &ids[1..99] {
        world.set(id, &["api"], 2);
    }
    world.remove("vm/099");
    let next = world.ack(&first[0]);
    assert_eq!(next[0].removed_resources, ["vm/099"]);
    assert!(next[0].resources.len() < 98);
}

#[test]
fn a_workload_that_leaves_all_listings_is_removed_and_one_that_stays_in_one_is_not() {
    let mut world = World::new(&[("vm/a", &["api", "web"]), ("vm/b", &["api"])]);
    world.listening(&["default/api"]);
    assert_eq!(told(&world.set("vm/a", &["web"], 1)), ["Workload-vm/a"]);
    let mut world = World::new(&[("vm/a", &["api", "web"]), ("vm/b", &["api"])]);
    world.listening(&["default/api", "default/web"]);
    assert_eq!(told(&world.unsubscribe(Type::Workload, &["default/api"])), [""; 0]);
    assert_eq!(world.stream.status().types[1].held, 1, "vm/a is still in web");
    assert_eq!(told(&world.set("vm/a", &["api", "web"], 2)), ["Workload+vm/a"]);
}

#[test]
fn a_listing_given_up_while_its_answer_is_under_way_is_complete_when_it_is_wanted_again() {
    let mut world = World::new(&[("vm/a", &["api", "web"])]);
    let first = world.subscribe(Type::Workload, &["default/api"]);
    assert!(world.unsubscribe(Type::Workload, &["default/api"]).is_empty());
    // The client ignored the answer: it wanted nothing of it any more.
    let after = world.ack(&first[0]);
    assert_eq!(told(&after), ["Workload-vm/a"]);
    world.ack(&after[0]);
    assert_eq!(told(&world.subscribe(Type::Workload, &["default/web"])), ["Workload+vm/a"]);
}

#[test]
fn a_stream_that_is_further_behind_than_the_log_compares() {
    let mut world = World::new(&[("vm/a", &["api"]), ("vm/b", &["api"])]);
    world.listening(&["default/api"]);
    let behind = std::mem::replace(&mut world.stream, Stream::new(StreamSettings::default()));
    for weight in 2..400 {
        world.set("vm/x", &["other"], weight);
        world.set("vm/a", &["api"], weight);
    }
    world.remove("vm/b");
    for weight in 2..400 {
        world.set("vm/x", &["other"], weight);
    }
    world.stream = behind;
    let caught_up = world.stream.on_published(&world.published);
    assert_eq!(told(&caught_up), ["Workload+vm/a", "Workload-vm/b"]);
}

#[test]
fn the_status_says_which_revision_is_applied_and_what_is_missing() {
    let mut world = World::new(&[("vm/a", &["api"])]);
    assert_eq!(world.stream.status().applied_revision, None);
    world.listening(&["default/api"]);
    let before = world.published.revision.0;
    let change = world.set("vm/a", &["api"], 2);
    let status = world.stream.status();
    assert_eq!((status.applied_revision, status.in_sync), (Some(before), false));
    assert_eq!(status.types[1].in_flight_revision, Some(before + 1));
    world.ack(&change[0]);
    let status = world.stream.status();
    assert_eq!((status.applied_revision, status.in_sync), (Some(before + 1), true));
    assert_eq!(status.user_agent.as_deref(), Some("weft-proxy"));
    world.set("vm/x", &["other"], 1);
    assert_eq!(
        world.stream.status().applied_revision,
        Some(before + 2),
        "what concerns others is applied unsent"
    );
}
