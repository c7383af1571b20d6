//! Requests, types, nonces, and one response under way at a time.

use super::*;

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
