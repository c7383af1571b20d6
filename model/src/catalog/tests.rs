//! The merge rules one by one, what counts as a change, and what a change costs. `tests/properties.rs` holds the whole
//! against a naive model.

mod cost;
mod leaving;
mod mappings;
mod prefer;
mod properties;

use std::collections::BTreeMap;

use super::*;
use crate::entry::{Entry, EntryKey};
use crate::service::{Protocol, ServicePort};
use crate::workload::{Health, Provenance, Tunnel, Workload, WorkloadPort};

fn registry(text: &str) -> RegistryId {
    text.parse().unwrap()
}

fn key(text: &str) -> ServiceKey {
    text.parse().unwrap()
}

fn id(name: &str) -> InstanceId {
    format!("pod/{name}").parse().unwrap()
}

/// A healthy workload on port 80 of each service.
fn workload(name: &str, services: &[&str]) -> Workload {
    let port = WorkloadPort { name: None, number: 80, protocol: Protocol::Detect };
    Workload {
        id: id(name),
        services: services.iter().map(|service| (key(service), vec![port.clone()])).collect(),
        addresses: vec!["10.0.0.1".parse().unwrap()],
        network: crate::Network::default_network(),
        identity: None,
        tunnel: Tunnel::Port(15008),
        captured: false,
        locality: crate::Locality::default(),
        node: None,
        weight: Workload::DEFAULT_WEIGHT,
        health: Health::Healthy,
        labels: BTreeMap::new(),
        provenance: BTreeSet::new(),
    }
}

fn seen_by(workload: Workload, by: &str, object: &str, since_unix_ms: u64) -> Workload {
    let said = Provenance { registry: registry(by), object: object.to_owned(), since_unix_ms };
    Workload { provenance: BTreeSet::from([said]), ..workload }
}

fn service(name: &str, ports: &[(&str, u16)]) -> Service {
    let ports = ports.iter().map(|(name, number)| ServicePort {
        name: name.parse().ok(),
        number: *number,
        protocol: Protocol::Http1,
    });
    Service {
        key: key(name),
        ports: ports.collect(),
        labels: BTreeMap::new(),
        addresses: Default::default(),
        prefer: None,
    }
}

fn upsert(workloads: impl IntoIterator<Item = Workload>) -> RegistryEvent {
    RegistryEvent::Upsert(workloads.into_iter().map(Entry::from).collect())
}

fn remove(name: &str) -> RegistryEvent {
    RegistryEvent::Remove(vec![EntryKey::Workload(id(name))])
}

fn reset(scope: Scope, workloads: impl IntoIterator<Item = Workload>) -> RegistryEvent {
    RegistryEvent::Reset { scope, entries: workloads.into_iter().map(Entry::from).collect() }
}

fn only(services: &[&str]) -> Scope {
    Scope::Services(services.iter().map(|service| key(service)).collect())
}

fn changes(services: &[&str], workloads: &[&str], urgent: bool) -> Changes {
    let services = services.iter().map(|name| key(name)).collect();
    Changes { services, workloads: workloads.iter().map(|name| id(name)).collect(), urgent }
}

fn mapped(by: &str, mapping: Mapping) -> Catalog {
    Catalog::new(BTreeMap::from([(registry(by), mapping)]))
}

fn names(catalog: &Catalog) -> Vec<String> {
    catalog.snapshot().workloads().map(|workload| workload.id.to_string()).collect()
}

const NOTHING: Changes = Changes { services: BTreeSet::new(), workloads: BTreeSet::new(), urgent: false };

#[test]
fn a_service_comes_with_its_first_workload_and_goes_with_its_last() {
    let (mut catalog, consul) = (Catalog::default(), registry("consul/dc1"));
    assert_eq!(catalog.apply(&consul, upsert([workload("a", &["web"])])), changes(&["web"], &["a"], false));
    assert_eq!(catalog.apply(&consul, upsert([workload("b", &["web"])])), changes(&[], &["b"], false));
    assert_eq!(catalog.snapshot().service(&key("web")).unwrap().ports, []);
    assert_eq!(catalog.snapshot().members(&key("web")).count(), 2);
    assert_eq!(catalog.apply(&consul, remove("a")), changes(&[], &["a"], true));
    assert_eq!(catalog.apply(&consul, remove("b")), changes(&["web"], &["b"], true));
    assert!(catalog.snapshot().service(&key("web")).is_none());
    assert_eq!(catalog.snapshot().revision.0, 4);
}

#[test]
fn a_declared_service_stays_without_workloads() {
    let (mut catalog, file) = (Catalog::default(), registry("file/local"));
    let declared = Entry::Service(service("web", &[("http", 80)]));
    assert_eq!(catalog.apply(&file, RegistryEvent::Upsert(vec![declared])), changes(&["web"], &[], false));
    catalog.apply(&file, upsert([workload("a", &["web"])]));
    assert_eq!(catalog.apply(&file, remove("a")), changes(&[], &["a"], true));
    assert_eq!(catalog.snapshot().service(&key("web")).unwrap().ports.len(), 1);
    let gone = RegistryEvent::Remove(vec![EntryKey::Service(key("web"))]);
    assert_eq!(catalog.apply(&file, gone), changes(&["web"], &[], false));
    assert_eq!(catalog.held_by(&file), 0);
}

#[test]
fn no_registry_removes_another_s_workload_nor_brings_back_one_that_another_removed() {
    let mut catalog = Catalog::default();
    let (one, two) = (registry("consul/dc1"), registry("consul/dc2"));
    catalog.apply(&one, upsert([workload("a", &["web"])]));
    assert_eq!(catalog.apply(&two, remove("a")), NOTHING);
    assert_eq!(catalog.apply(&two, reset(Scope::All, [])), NOTHING);
    assert_eq!(catalog.apply(&two, reset(only(&["web"]), [])), NOTHING);
    assert_eq!(names(&catalog), ["pod/a"]);
    catalog.apply(&one, remove("a"));
    assert_eq!(catalog.apply(&two, upsert([workload("b", &["web"])])).workloads.len(), 1);
    assert_eq!(names(&catalog), ["pod/b"]);
}

#[test]
fn a_scoped_reset_removes_only_inside_its_scope() {
    let (mut catalog, consul) = (Catalog::default(), registry("consul/dc1"));
    let both = workload("both", &["web", "api"]);
    catalog.apply(
        &consul,
        upsert([workload("a", &["web"]), workload("b", &["web"]), workload("c", &["api"]), both]),
    );
    let changed = catalog.apply(&consul, reset(only(&["web"]), [workload("a", &["web"])]));
    assert_eq!(changed, changes(&[], &["b", "both"], true));
    assert_eq!(names(&catalog), ["pod/a", "pod/c"]);
    let changed = catalog.apply(&consul, reset(only(&["web", "api", "unheard-of"]), []));
    assert_eq!(changed, changes(&["web", "api"], &["a", "c"], true));
}

#[test]
fn a_workload_listed_in_a_scoped_reset_may_have_left_the_scope() {
    let (mut catalog, consul) = (Catalog::default(), registry("consul/dc1"));
    catalog.apply(&consul, upsert([workload("a", &["web"])]));
    let changed = catalog.apply(&consul, reset(only(&["web"]), [workload("a", &["api"])]));
    assert_eq!(changed, changes(&["web", "api"], &["a"], true));
    assert_eq!(catalog.apply(&consul, reset(only(&["web"]), [])), NOTHING);
    assert_eq!(catalog.snapshot().members(&key("api")).count(), 1);
}

#[test]
fn the_best_registry_describes_and_the_others_add_what_it_does_not_say() {
    let mut catalog = Catalog::default();
    let label = |value: &str| BTreeMap::from([("tier".to_owned(), value.to_owned())]);
    let by_consul = Workload { weight: 7, labels: label("consul"), ..workload("a", &["web", "web-consul"]) };
    let mut by_pod = Workload { weight: 3, labels: BTreeMap::new(), ..workload("a", &["web"]) };
    by_pod.services.insert(key("web"), vec![]);
    catalog.apply(&registry("consul/dc1"), upsert([seen_by(by_consul, "consul/dc1", "n/a", 1)]));
    catalog.apply(&registry("kubernetes/prod"), upsert([seen_by(by_pod, "kubernetes/prod", "default/a", 2)]));
    let snapshot = catalog.snapshot();
    let merged = snapshot.workload(&id("a")).unwrap();
    assert_eq!(merged.weight, 3);
    assert_eq!(merged.labels, label("consul"));
    assert_eq!(merged.services[&key("web")], []);
    assert_eq!(merged.services[&key("web-consul")].len(), 1);
    assert_eq!(merged.provenance.len(), 2);
    let changed = catalog.apply(&registry("kubernetes/prod"), remove("a"));
    assert_eq!(changed, changes(&[], &["a"], false));
    assert_eq!(catalog.snapshot().workload(&id("a")).unwrap().weight, 7);
}

#[test]
fn two_registries_of_one_kind_go_by_name() {
    let mut catalog = Catalog::default();
    for (by, weight) in [("consul/b", 2), ("consul/a", 1), ("consul/c", 3)] {
        catalog.apply(&registry(by), upsert([Workload { weight, ..workload("a", &["web"]) }]));
    }
    assert_eq!(catalog.snapshot().workload(&id("a")).unwrap().weight, 1);
}

#[test]
fn health_is_the_worst_that_anybody_knows() {
    use Health::{Draining, Healthy, Unhealthy, Unknown};
    for (one, other, merged) in [
        (Unknown, Healthy, Healthy),
        (Unknown, Unknown, Unknown),
        (Healthy, Draining, Draining),
        (Draining, Unhealthy, Unhealthy),
        (Unknown, Unhealthy, Unhealthy),
    ] {
        for (first, second) in [(one, other), (other, one)] {
            let mut catalog = Catalog::default();
            catalog
                .apply(&registry("nomad/g"), upsert([Workload { health: first, ..workload("a", &["web"]) }]));
            catalog.apply(
                &registry("consul/d"),
                upsert([Workload { health: second, ..workload("a", &["web"]) }]),
            );
            assert_eq!(catalog.snapshot().workload(&id("a")).unwrap().health, merged);
        }
    }
}

#[test]
fn ports_of_a_service_are_united_but_none_may_change_what_a_better_one_means() {
    let mut catalog = Catalog::default();
    let declare = |ports| RegistryEvent::Upsert(vec![Entry::Service(service("web", ports))]);
    let worse = declare(&[("http", 8080), ("admin", 80), ("extra", 9000), ("nameless-number", 0)]);
    catalog.apply(&registry("file/local"), worse);
    catalog.apply(&registry("kubernetes/prod"), declare(&[("http", 80), ("zero", 0)]));
    let snapshot = catalog.snapshot();
    let ports = &snapshot.service(&key("web")).unwrap().ports;
    let ports: Vec<_> =
        ports.iter().map(|port| (port.name.as_ref().unwrap().as_str(), port.number)).collect();
    assert_eq!(ports, [("extra", 9000), ("http", 80), ("nameless-number", 0), ("zero", 0)]);
}

#[test]
fn what_is_said_again_changes_nothing_and_copies_nothing() {
    let (mut catalog, consul) = (Catalog::default(), registry("consul/dc1"));
    let all = || [workload("a", &["web"]), workload("b", &["api"])];
    catalog.apply(&consul, reset(Scope::All, all()));
    let before = catalog.snapshot();
    for again in [reset(Scope::All, all()), reset(only(&["web"]), [workload("a", &["web"])]), upsert(all())] {
        assert_eq!(catalog.apply(&consul, again), NOTHING);
    }
    let after = catalog.snapshot();
    assert_eq!(after.revision, before.revision);
    assert!(before.workloads().zip(after.workloads()).all(|(before, after)| Arc::ptr_eq(before, after)));
    assert!(before.services().zip(after.services()).all(|(before, after)| Arc::ptr_eq(before, after)));
}

#[test]
fn what_a_better_registry_hides_is_no_change_and_copies_nothing() {
    let mut catalog = Catalog::default();
    let (better, worse) = (registry("nomad/global"), registry("consul/dc1"));
    catalog.apply(&better, upsert([workload("a", &["web"])]));
    catalog.apply(&worse, upsert([workload("a", &["web"])]));
    let before = catalog.snapshot();
    assert_eq!(catalog.apply(&worse, upsert([Workload { weight: 1, ..workload("a", &["web"]) }])), NOTHING);
    let after = catalog.snapshot();
    assert!(before.workloads().zip(after.workloads()).all(|(before, after)| std::ptr::eq(before, after)));
}

#[test]
fn a_port_name_said_twice_counts_once() {
    let (mut catalog, file) = (Catalog::default(), registry("file/local"));
    // No legal name: a port without one, told apart by its number.
    let twice = service("web", &[("http", 81), ("http", 80), ("admin", 80), ("", 91), ("", 90), ("", 91)]);
    catalog.apply(&file, RegistryEvent::Upsert(vec![Entry::Service(twice)]));
    let snapshot = catalog.snapshot();
    let ports: Vec<u16> =
        snapshot.service(&key("web")).unwrap().ports.iter().map(|port| port.number).collect();
    assert_eq!(ports, [90, 91, 80, 80]);
}

#[test]
fn another_order_of_ports_is_no_change_and_of_addresses_is_one() {
    let (mut catalog, file) = (Catalog::default(), registry("file/local"));
    let port = |number| WorkloadPort { name: None, number, protocol: Protocol::Tcp };
    let mut first = workload("a", &["web"]);
    first.services.insert(key("web"), vec![port(1), port(2)]);
    first.addresses = vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
    catalog.apply(&file, upsert([first.clone()]));
    let mut ports_turned = first.clone();
    ports_turned.services.insert(key("web"), vec![port(2), port(1), port(2)]);
    ports_turned.addresses.push("10.0.0.1".parse().unwrap());
    assert_eq!(catalog.apply(&file, upsert([ports_turned])), NOTHING);
    let mut addresses_turned = first;
    addresses_turned.addresses.reverse();
    assert_eq!(catalog.apply(&file, upsert([addresses_turned])), changes(&[], &["a"], false));
}

#[test]
fn provenance_alone_is_shown_but_is_no_change() {
    let (mut catalog, file) = (Catalog::default(), registry("file/local"));
    let said = |object: &str, since| seen_by(workload("a", &["web"]), "file/local", object, since);
    let held = |catalog: &Catalog| {
        let snapshot = catalog.snapshot();
        let first = snapshot.workload(&id("a")).unwrap().provenance.first().unwrap();
        (first.object.clone(), first.since_unix_ms)
    };
    catalog.apply(&file, upsert([said("web.yaml:1", 100)]));
    assert_eq!(catalog.apply(&file, upsert([said("web.yaml:1", 200)])), NOTHING);
    assert_eq!(held(&catalog), ("web.yaml:1".to_owned(), 100));
    assert_eq!(catalog.apply(&file, upsert([said("web.yaml:9", 300)])), NOTHING);
    assert_eq!(held(&catalog), ("web.yaml:9".to_owned(), 100));
    catalog.apply(&file, upsert([Workload { weight: 1, ..said("web.yaml:9", 400) }]));
    assert_eq!(held(&catalog), ("web.yaml:9".to_owned(), 100));
    catalog.apply(&file, remove("a"));
    catalog.apply(&file, upsert([said("web.yaml:9", 500)]));
    assert_eq!(held(&catalog), ("web.yaml:9".to_owned(), 500));
    let also = seen_by(workload("a", &["web"]), "consul/dc1", "n/a", 600);
    assert_eq!(catalog.apply(&registry("consul/dc1"), upsert([also])), NOTHING);
    assert_eq!(catalog.snapshot().workload(&id("a")).unwrap().provenance.len(), 2);
}

#[test]
fn what_took_work_and_does_not_any_more_is_urgent_and_nothing_else_is() {
    let from = || workload("a", &["web", "api"]);
    let port = |number| vec![WorkloadPort { name: None, number, protocol: Protocol::Tcp }];
    let address = |text: &str| vec![text.parse().unwrap()];
    let both = || vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
    let on_81 =
        || Workload { services: BTreeMap::from([(key("web"), port(81)), (key("api"), port(80))]), ..from() };
    let other_protocol =
        || Workload { services: ["web", "api"].map(|name| (key(name), port(80))).into(), ..from() };
    let id = "spiffe://weft.local/ns/default/sa/web".parse().ok();
    for (case, after, urgent) in [
        ("unhealthy", Workload { health: Health::Unhealthy, ..from() }, true),
        ("draining", Workload { health: Health::Draining, ..from() }, true),
        ("unknown health", Workload { health: Health::Unknown, ..from() }, false),
        ("weight 0", Workload { weight: 0, ..from() }, true),
        ("less weight", Workload { weight: 1, ..from() }, false),
        ("left a service", workload("a", &["web"]), true),
        ("joined a service", workload("a", &["web", "api", "more"]), false),
        ("another port", on_81(), true),
        ("another protocol", other_protocol(), false),
        ("another address", Workload { addresses: address("10.0.0.2"), ..from() }, true),
        ("one more address", Workload { addresses: both(), ..from() }, false),
        ("no address", Workload { addresses: vec![], ..from() }, true),
        ("no tunnel", Workload { tunnel: Tunnel::None, ..from() }, true),
        ("another network", Workload { network: "west".parse().unwrap(), ..from() }, true),
        ("another identity", Workload { identity: id, ..from() }, true),
    ] {
        let (mut catalog, file) = (Catalog::default(), registry("file/local"));
        catalog.apply(&file, upsert([from()]));
        let changed = catalog.apply(&file, upsert([after.clone()]));
        assert!(!changed.is_empty(), "{case}");
        assert_eq!(changed.urgent, urgent, "{case}");
        if !after.health.takes_new_work() {
            assert!(!catalog.apply(&file, remove("a")).urgent, "{case}: it had stopped before");
        }
    }
}

#[test]
fn a_snapshot_shows_itself_as_json() {
    let mut catalog = Catalog::default();
    catalog.apply(&registry("file/local"), upsert([workload("a", &["web"])]));
    let shown = serde_json::to_value(catalog.snapshot()).unwrap();
    assert_eq!(shown["revision"], 1);
    assert_eq!(shown["services"][0]["key"], "default/web");
    assert_eq!(shown["workloads"][0]["services"]["default/web"][0]["number"], 80);
}

#[test]
fn what_is_restored_keeps_its_names_until_the_first_listing_replaces_it() {
    let consul = registry("consul/dc1");
    let mapping = Mapping { apart: true, ..Mapping::default() };
    let started = || Catalog::new(BTreeMap::from([(consul.clone(), mapping.clone())]));
    let mut before = started();
    before.apply(&consul, reset(Scope::All, [workload("a", &["web"]), workload("b", &["api"])]));
    let mut after = started();
    assert!(!after.restore(&consul, before.entries(&consul)).is_empty());
    let named =
        |catalog: &Catalog| catalog.snapshot().services().map(|one| one.key.to_string()).collect::<Vec<_>>();
    assert_eq!(named(&after), named(&before));
    assert!(
        after
            .apply(&consul, reset(Scope::All, [workload("a", &["web"]), workload("b", &["api"])]))
            .is_empty()
    );
    after.apply(&consul, reset(Scope::All, [workload("a", &["web"])]));
    assert_eq!((named(&after), after.held_by(&consul)), (vec!["default/web-dc1".to_owned()], 1));
}
