//! What a change of the model is on the wire, and that it costs no more than itself.

use std::collections::BTreeMap;

use weft_model::{Catalog, Entry, RegistryEvent, RegistryId, Service, Workload};

use super::*;

struct World {
    catalog: Catalog,
    registry: RegistryId,
    set: ResourceSet,
}

impl World {
    fn new() -> Self {
        let registry = "consul/dc1".parse().unwrap();
        Self { catalog: Catalog::new(BTreeMap::new()), registry, set: ResourceSet::default() }
    }

    fn apply(&mut self, event: RegistryEvent) -> Changed {
        let changes = self.catalog.apply(&self.registry, event);
        let (next, changed) = self.set.advance(&self.catalog.snapshot(), &changes, &[]);
        self.set = next;
        changed
    }

    fn upsert(&mut self, workloads: impl IntoIterator<Item = Workload>) -> Changed {
        self.apply(RegistryEvent::Upsert(workloads.into_iter().map(Entry::from).collect()))
    }

    fn members(&self, service: &str) -> Vec<&str> {
        self.set.members(service).map(AsRef::as_ref).collect()
    }
}

fn workload(id: &str, services: &[&str]) -> Workload {
    Workload {
        id: id.parse().unwrap(),
        services: services.iter().map(|name| (name.parse().unwrap(), Vec::new())).collect(),
        addresses: vec!["10.0.0.1".parse().unwrap()],
        network: weft_model::Network::default_network(),
        identity: None,
        tunnel: weft_model::Tunnel::None,
        captured: false,
        locality: Default::default(),
        node: None,
        weight: Workload::DEFAULT_WEIGHT,
        health: weft_model::Health::Healthy,
        labels: BTreeMap::new(),
        provenance: Default::default(),
    }
}

#[test]
fn a_workload_that_moves_is_listed_where_it_went_and_announced_on_both_sides() {
    let mut world = World::new();
    world.upsert([workload("vm/a", &["api", "web"])]);
    let changed = world.upsert([workload("vm/a", &["web", "store"])]);
    let moved = &changed.workloads[0];
    assert_eq!(moved.name.as_ref(), "vm/a");
    let told: Vec<&str> = moved.services.iter().map(AsRef::as_ref).collect();
    assert_eq!(told, ["default/api", "default/web", "default/store"]);
    assert_eq!(world.members("default/api"), [""; 0]);
    assert_eq!(world.members("default/web"), ["vm/a"]);
    assert_eq!(world.members("default/store"), ["vm/a"]);
    assert!(world.set.service("default/api").is_none());
}

#[test]
fn a_change_that_is_not_on_the_wire_is_no_change_and_keeps_the_bytes() {
    let mut world = World::new();
    world.upsert([workload("vm/a", &["api"])]);
    let before = world.set.workload("vm/a").unwrap().clone();
    let mut labelled = workload("vm/a", &["api"]);
    labelled.labels.insert("team".to_owned(), "blue".to_owned());
    assert!(world.upsert([labelled]).is_empty());
    assert!(Arc::ptr_eq(&before, world.set.workload("vm/a").unwrap()));
}

#[test]
fn one_change_among_many_touches_nothing_else() {
    let mut world = World::new();
    let all = (0..5_000).map(|n| workload(&format!("vm/{n}"), &[&format!("api-{}", n % 500)]));
    world.upsert(all);
    let before = world.set.clone();
    let mut changed = workload("vm/7", &["api-7"]);
    changed.weight = 1;
    assert_eq!(world.upsert([changed]).workloads.len(), 1);
    for (name, kept) in &before.workloads {
        assert_eq!(Arc::ptr_eq(kept, &world.set.workloads[name]), name.as_ref() != "vm/7");
    }
    for (name, kept) in &before.services {
        assert!(Arc::ptr_eq(kept, &world.set.services[name]));
    }
    assert_eq!(before.workload("vm/7").unwrap().name, world.set.workload("vm/7").unwrap().name);
}

#[test]
fn the_same_state_reached_on_two_ways_has_the_same_versions() {
    let (mut one, mut other) = (World::new(), World::new());
    one.upsert([workload("vm/a", &["api"]), workload("vm/b", &["api"])]);
    other.upsert([workload("vm/b", &["web"])]);
    other.upsert([workload("vm/b", &["api"])]);
    other.upsert([workload("vm/a", &["api"])]);
    for name in ["vm/a", "vm/b"] {
        assert_eq!(one.set.workload(name).unwrap().version, other.set.workload(name).unwrap().version);
    }
    let version = |world: &World| world.set.service("default/api").unwrap().version;
    assert_eq!(version(&one), version(&other));
}

#[test]
fn a_bundle_that_is_not_listed_any_more_is_gone() {
    let bundle =
        |name: &str| TrustBundle { trust_domain: name.parse().unwrap(), roots: vec![vec![0x30].into()] };
    let (snapshot, none) = (Snapshot::default(), Changes::default());
    let (both, _) = ResourceSet::default().advance(&snapshot, &none, &[bundle("a"), bundle("b")]);
    let (one, changed) = both.advance(&snapshot, &none, &[bundle("b")]);
    assert_eq!(changed.bundles, ["a".into()]);
    assert_eq!(one.count(ResourceType::TrustBundle), 1);
    assert!(one.bundle("a").is_none());
}

#[test]
fn a_declared_service_without_workloads_is_a_resource() {
    let mut world = World::new();
    let service = Service {
        key: "api".parse().unwrap(),
        ports: Vec::new(),
        labels: BTreeMap::new(),
        addresses: Default::default(),
        prefer: None,
    };
    world.apply(RegistryEvent::Upsert(vec![Entry::Service(service)]));
    assert!(world.set.service("default/api").is_some());
    assert_eq!(world.set.count(ResourceType::Workload), 0);
}
