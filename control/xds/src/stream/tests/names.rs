//! Names that are asked for and given up, and wildcards.

use super::*;

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
