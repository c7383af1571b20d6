//! What a client that comes back holds, and registries that were not heard.

use super::*;

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
    assert_eq!(world.undecided(), [0, 2, 2, 0]);
    assert!(world.stream.status().in_sync);
    // What is heard is sent, and changes nothing of the rest.
    assert!(world.set("vm/a", &["api"], 1).is_empty(), "the versions are the same");
    assert_eq!(world.undecided(), [0, 1, 1, 0]);
    // Now it is known that there is no more.
    let decided = world.all_heard();
    assert_eq!(told(&decided), ["Workload-vm/b", "Service-default/none"]);
    world.settle(decided);
    assert_eq!(world.undecided(), [0, 0, 0, 0]);
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
    assert_eq!(world.undecided(), [0, 1, 1, 0]);
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
