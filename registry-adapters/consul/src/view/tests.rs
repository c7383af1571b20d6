//! What a view emits for each change of what Consul answers.

use std::collections::BTreeMap;

use weft_model::{EntryKey, Health, Locality, Network, Provenance, ServiceKey, Tunnel, WorkloadPort};

use super::*;

fn target(name: &str) -> Target {
    Target { namespace: None, name: name.parse().unwrap() }
}

fn workload(id: &str, service: &str) -> Workload {
    let port = WorkloadPort { name: None, number: 80, protocol: weft_model::Protocol::Detect };
    Workload {
        id: format!("consul/dc1/n/{id}").parse().unwrap(),
        services: BTreeMap::from([(service.parse().unwrap(), vec![port])]),
        addresses: vec!["10.0.0.1".parse().unwrap()],
        network: Network::default_network(),
        identity: None,
        tunnel: Tunnel::None,
        captured: false,
        locality: Locality::default(),
        node: None,
        weight: 100,
        health: Health::Healthy,
        labels: BTreeMap::new(),
        provenance: BTreeSet::from([Provenance {
            registry: "consul/dc1".parse().unwrap(),
            object: format!("n/{id}"),
            since_unix_ms: 1,
        }]),
    }
}

fn converted(workloads: Vec<Workload>) -> Converted {
    Converted { workloads, problems: Vec::new() }
}

fn names<'a>(names: &[&'a str]) -> BTreeSet<&'a str> {
    names.iter().copied().collect()
}

/// A view that has read these services, each with one instance of its name.
fn view_of(services: &[&str]) -> View {
    let mut view = View::new([None]);
    let mut listed = names(services);
    listed.insert("consul");
    view.on_list(&None, &listed, Sight::Full);
    for service in services {
        view.on_instances(&target(service), converted(vec![workload(service, service)]), true);
    }
    view
}

/// An event as scope and keys.
fn shown(event: RegistryEvent) -> (Vec<String>, Vec<String>) {
    let RegistryEvent::Reset { scope, entries } = event else { panic!("no Reset") };
    let scope = match scope {
        Scope::All => vec!["all".to_owned()],
        Scope::Services(services) => services.iter().map(ToString::to_string).collect(),
    };
    let keys = entries.iter().map(|entry| match entry.key() {
        EntryKey::Workload(id) => id.to_string(),
        EntryKey::Service(key) => key.to_string(),
    });
    (scope, keys.collect())
}

#[test]
fn every_reading_of_a_list_has_its_sight() {
    let sight = |list: &[&str], filtered, namespace: Option<&str>, told| {
        Sight::of_list(&names(list), filtered, &namespace.map(str::to_owned), told)
    };
    assert_eq!(sight(&["consul"], false, None, false), Sight::Full);
    assert_eq!(sight(&["consul", "a"], false, None, false), Sight::Full);
    assert_eq!(sight(&[], false, None, false), Sight::Nothing);
    assert_eq!(sight(&[], false, None, true), Sight::Nothing);
    assert_eq!(sight(&[], true, None, true), Sight::Nothing);
    assert_eq!(sight(&["a"], true, None, true), Sight::Partial);
    assert_eq!(sight(&["a"], false, None, false), Sight::Unsure);
    assert_eq!(sight(&["a"], false, None, true), Sight::Full);
    // `consul` lives in the default namespace alone.
    assert_eq!(sight(&[], false, Some("team"), true), Sight::Full);
    assert_eq!(sight(&[], false, Some("team"), false), Sight::Nothing);
    assert_eq!(sight(&["a"], false, Some("team"), false), Sight::Unsure);
}

#[test]
fn consul_itself_is_no_service_of_the_mesh_and_an_odd_name_is_left_out_with_a_warning() {
    let mut view = View::new([None]);
    let listed = view.on_list(&None, &names(&["consul", "web", "odd name"]), Sight::Full);
    assert_eq!(listed.added, [target("web")]);
    let [problem] = view.problems().try_into().unwrap();
    assert!(problem.object.contains("odd name"), "{problem}");
}

#[test]
fn what_a_full_list_lacks_is_gone_and_what_a_partial_one_lacks_is_doubtful() {
    for (sight, gone, doubtful) in [
        (Sight::Full, vec![target("b")], vec![]),
        (Sight::Partial, vec![], vec![target("b")]),
        (Sight::Unsure, vec![], vec![]),
        (Sight::Nothing, vec![], vec![]),
    ] {
        let listed = view_of(&["a", "b"]).on_list(&None, &names(&["a", "c"]), sight);
        assert_eq!((listed.gone, listed.doubtful), (gone, doubtful), "{sight:?}");
    }
}

#[test]
fn services_that_vanish_are_one_event() {
    let mut view = view_of(&["a", "b", "c"]);
    let event = view.on_gone(&[target("a"), target("b")]).unwrap();
    assert_eq!(shown(event), (vec!["default/a".to_owned(), "default/b".to_owned()], vec![]));
    assert_eq!(shown(view.all()).1, ["consul/dc1/n/c"]);
    assert_eq!(view.on_gone(&[target("a")]), None);
}

#[test]
fn an_unchanged_answer_is_no_event() {
    let mut view = view_of(&["a"]);
    assert_eq!(view.on_instances(&target("a"), converted(vec![workload("a", "a")]), true), None);
}

#[test]
fn complete_is_when_the_list_and_each_listed_service_was_read_in_this_round() {
    let mut view = View::new([None]);
    assert!(!view.is_complete());
    view.on_list(&None, &names(&["consul", "a"]), Sight::Full);
    assert!(!view.is_complete());
    view.on_instances(&target("a"), converted(vec![workload("a", "a")]), false);
    assert!(!view.is_complete(), "an answer of the round before counted");
    view.on_instances(&target("a"), converted(vec![workload("a", "a")]), true);
    assert!(view.is_complete());
    view.start_over();
    assert!(!view.is_complete());
}

#[test]
fn an_instance_of_two_services_is_one_workload_and_leaves_one_without_leaving_the_other() {
    let mut view = view_of(&["a", "b"]);
    let shared = |service| workload("shared", service);
    view.on_instances(&target("a"), converted(vec![workload("a", "a"), shared("a")]), true);
    let event =
        view.on_instances(&target("b"), converted(vec![workload("b", "b"), shared("b")]), true).unwrap();
    let (scope, entries) = shown(event);
    assert_eq!(scope, ["default/a", "default/b"]);
    assert_eq!(entries, ["consul/dc1/n/a", "consul/dc1/n/b", "consul/dc1/n/shared"]);
    let event = view.on_instances(&target("a"), converted(vec![workload("a", "a")]), true).unwrap();
    let RegistryEvent::Reset { entries, .. } = event else { panic!("no Reset") };
    let Some(Entry::Workload(left)) = entries.last() else { panic!("the shared instance is gone") };
    assert_eq!(left.services.keys().collect::<Vec<_>>(), [&"default/b".parse::<ServiceKey>().unwrap()]);
}

#[test]
fn a_renamed_service_is_reset_under_both_names_and_loses_nobody_of_the_other() {
    let mut view = view_of(&["a", "b"]);
    let event = view.on_instances(&target("a"), converted(vec![workload("a", "b")]), true).unwrap();
    let (scope, entries) = shown(event);
    assert_eq!(scope, ["default/a", "default/b"]);
    assert_eq!(entries, ["consul/dc1/n/a", "consul/dc1/n/b"]);
}

#[test]
fn instances_that_a_token_does_not_see_any_more_are_kept() {
    let mut view = view_of(&["a"]);
    let event = view.on_some_instances(&target("a"), converted(vec![workload("new", "a")]), true).unwrap();
    assert_eq!(shown(event).1, ["consul/dc1/n/a", "consul/dc1/n/new"]);
    assert_eq!(view.problems().len(), 1);
}

#[test]
fn one_bad_service_is_a_problem_and_all_bad_ones_are_the_source() {
    let mut view = view_of(&["a", "b"]);
    view.on_hidden(&target("a"));
    assert!(view.source_error().is_none());
    assert_eq!(view.problems().len(), 1);
    view.on_hidden(&target("b"));
    assert_eq!(view.source_error().unwrap().kind, RegistryErrorKind::PermissionDenied);
    assert!(view.problems().is_empty());
    view.on_instances(&target("a"), converted(vec![workload("a", "a")]), true);
    assert!(view.source_error().is_none());
}

#[test]
fn an_empty_list_without_consul_is_denied_and_removes_nothing() {
    let mut view = view_of(&["a"]);
    assert_eq!(view.on_list(&None, &names(&[]), Sight::Nothing), Listed::default());
    assert_eq!(view.source_error().unwrap().kind, RegistryErrorKind::PermissionDenied);
    assert_eq!(shown(view.all()).1, ["consul/dc1/n/a"]);
}

#[test]
fn namespaces_do_not_touch_each_other() {
    let (one, two) = (Some("one".to_owned()), Some("two".to_owned()));
    let mut view = View::new([one.clone(), two.clone()]);
    view.on_list(&one, &names(&["a"]), Sight::Full);
    view.on_list(&two, &names(&["a"]), Sight::Full);
    let listed = view.on_list(&one, &names(&[]), Sight::Full);
    assert_eq!(listed.gone, [Target { namespace: one, name: "a".parse().unwrap() }]);
    assert_eq!(view.on_list(&two, &names(&["a"]), Sight::Full), Listed::default());
}
