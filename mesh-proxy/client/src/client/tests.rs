//! The core against scripted responses.

use prost::Message as _;
use weft_proto::discovery::{Any, DeltaDiscoveryResponse};
use weft_proto::mesh::v1 as wire;
use weft_proto::mesh::v1::ResourceErrors;

use super::*;

fn resource(kind: ResourceType, name: &str, version: &str, body: Vec<u8>) -> Resource {
    let body = Any { type_url: kind.url().to_owned(), value: body.into() };
    Resource { name: name.to_owned(), version: version.to_owned(), resource: Some(body), aliases: Vec::new() }
}

fn workload(id: &str, services: &[&str], weight: u32) -> Resource {
    let membership = |name: &&str| wire::Membership { service: (*name).to_owned(), ports: Vec::new() };
    let message = wire::Workload {
        id: id.to_owned(),
        services: services.iter().map(membership).collect(),
        addresses: vec![vec![10, 0, 0, 1].into()],
        weight,
        ..Default::default()
    };
    resource(ResourceType::Workload, id, &format!("v{weight}"), message.encode_to_vec())
}

fn service(name: &str) -> Resource {
    let (namespace, short) = name.split_once('/').unwrap();
    let message =
        wire::Service { namespace: namespace.to_owned(), name: short.to_owned(), ..Default::default() };
    resource(ResourceType::Service, name, "v1", message.encode_to_vec())
}

fn response(kind: ResourceType, resources: Vec<Resource>, removed: &[&str]) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        type_url: kind.url().to_owned(),
        nonce: "7".to_owned(),
        resources,
        removed_resources: removed.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    }
}

fn key(name: &str) -> ServiceKey {
    name.parse().unwrap()
}

fn client(services: &[&str]) -> Client {
    let mut client = Client::new("spiffe://mesh.test/ns/default/sa/web~web-1", "weft-proxy/0.1");
    services.iter().for_each(|name| assert!(client.subscribe(key(name)).is_empty()));
    client.on_connected();
    client
}

fn give(client: &mut Client, kind: ResourceType, resources: Vec<Resource>, removed: &[&str]) -> Vec<Update> {
    let applied = client.on_response(response(kind, resources, removed));
    assert!(applied.request.error_detail.is_none(), "{:?}", applied.refused);
    applied.updates
}

fn present(updates: &[Update]) -> (&ServiceKey, Vec<&Arc<Workload>>) {
    match updates {
        [Update::ServicePresent { service, workloads }] => (&service.key, workloads.values().collect()),
        other => panic!("not one present service: {other:?}"),
    }
}

fn errors(applied: &Applied) -> ResourceErrors {
    let detail = &applied.request.error_detail.as_ref().unwrap().details[0];
    ResourceErrors::decode(detail.value.clone()).unwrap()
}

#[test]
fn a_stream_opens_with_the_node_once_every_name_and_the_versions_held() {
    let mut client = client(&["default/api"]);
    give(&mut client, ResourceType::Workload, vec![workload("vm/a", &["default/api"], 1)], &[]);
    give(&mut client, ResourceType::Service, vec![service("default/api")], &[]);
    client.on_disconnected();
    let requests = client.on_connected();
    let urls: Vec<&str> = requests.iter().map(|request| request.type_url.as_str()).collect();
    assert_eq!(urls, ResourceType::ALL[..3].iter().map(|kind| kind.url()).collect::<Vec<_>>());
    assert_eq!(requests[0].resource_names_subscribe, ["*"]);
    assert_eq!(requests[0].node.as_ref().unwrap().user_agent_version, "0.1");
    assert!(requests[1].node.is_none() && requests[2].node.is_none());
    assert_eq!(requests[1].resource_names_subscribe, ["default/api"]);
    assert_eq!(requests[1].initial_resource_versions, [("vm/a".to_owned(), "v1".to_owned())].into());
    assert_eq!(requests[2].initial_resource_versions, [("default/api".to_owned(), "v1".to_owned())].into());
}

#[test]
fn a_service_is_told_once_it_is_there_with_all_its_workloads() {
    let mut client = client(&["default/api"]);
    let both = vec![workload("vm/b", &["default/api"], 1), workload("vm/a", &["default/api"], 1)];
    assert_eq!(give(&mut client, ResourceType::Workload, both, &[]), []);
    let updates = give(&mut client, ResourceType::Service, vec![service("default/api")], &[]);
    let (key, workloads) = present(&updates);
    assert_eq!(key.to_string(), "default/api");
    assert_eq!(workloads.iter().map(|w| w.id.as_str()).collect::<Vec<_>>(), ["vm/a", "vm/b"]);
}

#[test]
fn an_unchanged_workload_is_the_same_arc_and_a_repeat_is_no_update() {
    let mut client = client(&["default/api"]);
    let both = || vec![workload("vm/a", &["default/api"], 1), workload("vm/b", &["default/api"], 1)];
    give(&mut client, ResourceType::Workload, both(), &[]);
    let before = give(&mut client, ResourceType::Service, vec![service("default/api")], &[]);
    assert_eq!(give(&mut client, ResourceType::Workload, both(), &[]), []);
    assert_eq!(give(&mut client, ResourceType::Service, vec![service("default/api")], &[]), []);
    let after = give(&mut client, ResourceType::Workload, vec![workload("vm/b", &["default/api"], 2)], &[]);
    let (before, after) = (present(&before).1, present(&after).1);
    assert!(Arc::ptr_eq(before[0], after[0]));
    assert_eq!((before[1].weight, after[1].weight), (1, 2));
}

#[test]
fn a_bad_resource_is_refused_with_its_path_and_the_rest_of_the_response_is_used() {
    let mut client = client(&["default/api"]);
    let good = |weight| workload("vm/a", &["default/api"], weight);
    give(&mut client, ResourceType::Workload, vec![good(1), workload("vm/b", &["default/api"], 1)], &[]);
    give(&mut client, ResourceType::Service, vec![service("default/api")], &[]);
    let message = wire::Workload { id: "vm/b".to_owned(), health: 99, ..Default::default() };
    let bad = resource(ResourceType::Workload, "vm/b", "v9", message.encode_to_vec());
    let applied = client.on_response(response(ResourceType::Workload, vec![bad, good(2)], &[]));
    let workloads = present(&applied.updates).1;
    assert_eq!(workloads.iter().map(|w| w.weight).collect::<Vec<_>>(), [2, 1], "the last good state stays");
    assert_eq!(applied.request.response_nonce, "7");
    let errors = errors(&applied).errors;
    assert_eq!(errors.len(), 1);
    assert_eq!((errors[0].resource_name.as_str(), errors[0].field_path.as_str()), ("vm/b", "health"));
    let versions = client.on_connected().remove(1).initial_resource_versions;
    assert_eq!(versions["vm/b"], "v1", "what is held is what is reported");
}

#[test]
fn a_repeated_name_a_foreign_body_and_a_foreign_type_are_refused() {
    let mut client = client(&["default/api"]);
    let twice = vec![workload("vm/a", &["default/api"], 1), workload("vm/a", &["default/api"], 2)];
    let applied = client.on_response(response(ResourceType::Workload, twice, &[]));
    assert_eq!(errors(&applied).errors.len(), 1);
    let mut foreign = workload("vm/a", &["default/api"], 1);
    foreign.resource.as_mut().unwrap().type_url = ResourceType::Service.url().to_owned();
    let empty = Resource { resource: None, ..workload("vm/b", &["default/api"], 1) };
    let applied = client.on_response(response(ResourceType::Workload, vec![foreign, empty], &[]));
    assert_eq!(errors(&applied).errors.len(), 2);
    let cluster = "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned();
    let applied =
        client.on_response(DeltaDiscoveryResponse { type_url: cluster.clone(), ..Default::default() });
    assert_eq!(applied.request.type_url, cluster);
    assert!(applied.request.error_detail.is_some());
    assert!(client.held().is_empty());
}

#[test]
fn absence_is_told_and_may_end() {
    let mut client = client(&["default/api"]);
    let absent =
        give(&mut client, ResourceType::Service, vec![], &["default/api", "default/never", "no name"]);
    assert_eq!(absent, [Update::ServiceAbsent(key("default/api"))]);
    let updates = give(&mut client, ResourceType::Service, vec![service("default/api")], &[]);
    assert!(present(&updates).1.is_empty());
    give(&mut client, ResourceType::Workload, vec![workload("vm/a", &["default/api"], 1)], &[]);
    let updates = give(&mut client, ResourceType::Workload, vec![], &["vm/a", "vm/never", "no id"]);
    assert!(present(&updates).1.is_empty());
}

#[test]
fn absence_is_told_once_also_while_the_service_comes_back_and_on_the_next_stream() {
    let mut client = client(&["default/api"]);
    let gone = &["default/api"];
    let absent = [Update::ServiceAbsent(key("default/api"))];
    assert_eq!(give(&mut client, ResourceType::Service, vec![], gone), absent);
    assert_eq!(give(&mut client, ResourceType::Service, vec![], gone), []);
    let listed = vec![workload("vm/a", &["default/api"], 1)];
    assert_eq!(give(&mut client, ResourceType::Workload, listed, &[]), [], "its service follows");
    let back = give(&mut client, ResourceType::Service, vec![service("default/api")], &[]);
    assert_eq!(present(&back).1.len(), 1);
    assert_eq!(give(&mut client, ResourceType::Service, vec![], gone), absent);
    assert_eq!(give(&mut client, ResourceType::Workload, vec![], &["vm/a"]), []);
}

#[test]
fn what_is_not_wanted_any_more_is_forgotten_but_for_what_another_service_needs() {
    let mut client = client(&["default/api", "default/web"]);
    let all =
        vec![workload("vm/a", &["default/api"], 1), workload("vm/b", &["default/api", "default/web"], 1)];
    give(&mut client, ResourceType::Workload, all, &[]);
    give(&mut client, ResourceType::Service, vec![service("default/api"), service("default/web")], &[]);
    let requests = client.unsubscribe(&key("default/api"));
    assert_eq!(requests.len(), 2);
    assert!(client.unsubscribe(&key("default/api")).is_empty());
    let held: Vec<String> = client.held().into_iter().map(|resource| resource.name).collect();
    assert_eq!(held, ["vm/b", "default/web"]);
    // Answers that were under way.
    assert_eq!(
        give(&mut client, ResourceType::Workload, vec![workload("vm/a", &["default/api"], 2)], &[]),
        []
    );
    assert_eq!(give(&mut client, ResourceType::Service, vec![service("default/api")], &[]), []);
    // The workload that both know is there at once for who comes back.
    assert_eq!(client.subscribe(key("default/api")).len(), 2);
    let updates = give(&mut client, ResourceType::Service, vec![service("default/api")], &[]);
    assert_eq!(present(&updates).1.len(), 1);
}

#[test]
fn a_workload_that_moves_changes_both_services() {
    let mut client = client(&["default/api", "default/web"]);
    give(&mut client, ResourceType::Workload, vec![workload("vm/a", &["default/api"], 1)], &[]);
    give(&mut client, ResourceType::Service, vec![service("default/api"), service("default/web")], &[]);
    let updates = give(&mut client, ResourceType::Workload, vec![workload("vm/a", &["default/web"], 1)], &[]);
    let sizes: Vec<usize> = updates
        .iter()
        .map(|update| match update {
            Update::ServicePresent { workloads, .. } => workloads.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(sizes, [0, 1]);
}

#[test]
fn what_was_held_is_restored_and_what_is_damaged_is_left_out() {
    let mut before = client(&["default/api"]);
    let root = wire::TrustBundle { trust_domain: "mesh.test".to_owned(), roots: vec![vec![0x30].into()] };
    let root = resource(ResourceType::TrustBundle, "mesh.test", "v1", root.encode_to_vec());
    give(&mut before, ResourceType::TrustBundle, vec![root], &[]);
    give(&mut before, ResourceType::Workload, vec![workload("vm/a", &["default/api"], 1)], &[]);
    give(&mut before, ResourceType::Service, vec![service("default/api")], &[]);
    let mut held = before.held();
    held.push(resource(ResourceType::Workload, "vm/x", "v1", vec![0xff]));
    let mut after = Client::new("spiffe://mesh.test/ns/default/sa/web~web-1", "weft-proxy");
    let (updates, refused) = after.restore(held);
    assert_eq!(refused.len(), 1);
    assert_eq!(updates.len(), 2);
    assert!(matches!(&updates[0], Update::Bundles(bundles) if bundles.len() == 1));
    assert_eq!(present(&updates[1..]).1.len(), 1);
    let versions = |requests: Vec<DeltaDiscoveryRequest>| {
        requests
            .into_iter()
            .map(|r| (r.resource_names_subscribe, r.initial_resource_versions))
            .collect::<Vec<_>>()
    };
    before.on_disconnected();
    assert_eq!(versions(after.on_connected()), versions(before.on_connected()));
}

#[test]
fn whose_an_address_is_is_asked_only_where_somebody_wants_to_know_and_told_once() {
    let mut client = client(&[]);
    let address: weft_model::NetworkAddress = "default/10.96.0.7".parse().unwrap();
    assert_eq!(client.subscribe_address(address.clone()).len(), 1);
    assert!(client.subscribe_address(address.clone()).is_empty());
    let message = wire::Address {
        network: "default".to_owned(),
        ip: vec![10, 96, 0, 7].into(),
        service: "shop/api".to_owned(),
        ..Default::default()
    };
    let owned = || resource(ResourceType::Address, "default/10.96.0.7", "v1", message.encode_to_vec());
    let updates = give(&mut client, ResourceType::Address, vec![owned()], &[]);
    let owner = weft_model::AddressOwner::Service(key("shop/api"));
    assert!(matches!(&updates[..], [Update::AddressOwned(one)] if one.owner == owner), "{updates:?}");
    assert_eq!(give(&mut client, ResourceType::Address, vec![owned()], &[]), []);
    client.on_disconnected();
    let last = client.on_connected().pop().unwrap();
    assert_eq!(last.type_url, ResourceType::Address.url());
    assert_eq!(last.initial_resource_versions["default/10.96.0.7"], "v1");
    let free = [Update::AddressFree(address.clone())];
    assert_eq!(give(&mut client, ResourceType::Address, vec![], &["default/10.96.0.7", "no address"]), free);
    assert_eq!(give(&mut client, ResourceType::Address, vec![], &["default/10.96.0.7"]), []);
    assert_eq!(client.unsubscribe_address(&address).len(), 1);
    assert_eq!(give(&mut client, ResourceType::Address, vec![owned()], &[]), [], "it was given up");
}
