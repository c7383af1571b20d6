//! What a client refuses.

use super::*;

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
