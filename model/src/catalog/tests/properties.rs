//! The catalog against a naive model that keeps plain lists and computes everything anew after each event.

use std::net::IpAddr;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::{AddressOwner, NetworkAddress, Prefer};

const REGISTRIES: [&str; 4] = ["kubernetes/prod", "consul/dc1", "consul/dc2", "file/local"];
const ADDRESSES: [&str; 3] = ["10.0.0.1", "10.0.0.2", "fd00::1"];
const NETWORKS: [&str; 2] = ["default", "west"];
const SERVICES: [&str; 4] = ["web", "api", "shop/web", "shop/api"];

/// What each registry holds: its entries by its own keys, in its own words, and when it first said them.
#[derive(Default)]
struct Naive {
    mappings: BTreeMap<RegistryId, Mapping>,
    held: BTreeMap<(RegistryId, EntryKey), (Entry, u64)>,
}

/// The merged view, all of it.
#[derive(Debug, Clone, PartialEq, Default)]
struct View {
    services: BTreeMap<ServiceKey, Service>,
    workloads: BTreeMap<InstanceId, Workload>,
}

impl Naive {
    fn apply(&mut self, registry: &RegistryId, event: RegistryEvent, now: u64) {
        let entries = match event {
            RegistryEvent::Upsert(entries) => entries,
            RegistryEvent::Remove(keys) => {
                self.held.retain(|(by, key), _| by != registry || !keys.contains(key));
                Vec::new()
            }
            RegistryEvent::Reset { scope, entries } => {
                let listed: Vec<EntryKey> = entries.iter().map(Entry::key).collect();
                self.held.retain(|(by, key), (entry, _)| {
                    by != registry || listed.contains(key) || !in_scope(&scope, entry)
                });
                entries
            }
        };
        for entry in entries {
            let place = (registry.clone(), entry.key());
            let since = self.held.get(&place).map_or(now, |(_, since)| *since);
            self.held.insert(place, (entry, since));
        }
    }

    fn view(&self) -> View {
        let mut view = View::default();
        // From the least to the best, so that the better one writes over what the worse one wrote.
        for ((registry, _), (entry, since)) in self.held.iter().rev() {
            let mapping = self.mappings.get(registry).cloned().unwrap_or_default();
            match entry {
                Entry::Workload(said) => merge_workload(&mut view, &mapping, registry, said, *since),
                Entry::Service(said) => merge_service(&mut view, mapping.apply(registry, &said.key), said),
            }
        }
        for workload in view.workloads.values() {
            for key in workload.services.keys() {
                let undeclared = Service {
                    key: key.clone(),
                    ports: vec![],
                    labels: BTreeMap::new(),
                    addresses: Default::default(),
                    prefer: None,
                };
                view.services.entry(key.clone()).or_insert(undeclared);
            }
        }
        view
    }
}

fn in_scope(scope: &Scope, entry: &Entry) -> bool {
    match (scope, entry) {
        (Scope::All, _) => true,
        (Scope::Services(keys), Entry::Service(service)) => keys.contains(&service.key),
        (Scope::Services(keys), Entry::Workload(workload)) => {
            keys.iter().any(|key| workload.services.contains_key(key))
        }
    }
}

fn merge_workload(view: &mut View, mapping: &Mapping, registry: &RegistryId, said: &Workload, since: u64) {
    let mut better = said.clone();
    better.services = BTreeMap::new();
    for (key, ports) in &said.services {
        let place: &mut Vec<_> = better.services.entry(mapping.apply(registry, key)).or_default();
        place.extend(ports.iter().cloned());
        *place = place.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
    }
    better.provenance =
        said.provenance.iter().map(|p| Provenance { since_unix_ms: since, ..p.clone() }).collect();
    if let Some(worse) = view.workloads.remove(&said.id) {
        let of_both = [worse.health, better.health];
        let worst_first = [Health::Unhealthy, Health::Draining, Health::Healthy, Health::Unknown];
        better.health = worst_first.into_iter().find(|health| of_both.contains(health)).unwrap();
        better.services = worse.services.into_iter().chain(better.services).collect();
        better.labels = worse.labels.into_iter().chain(better.labels).collect();
        better.provenance.extend(worse.provenance);
    }
    view.workloads.insert(said.id.clone(), better);
}

/// The generated ports have either a name and number 0, or no name and a number: so that a plain map shows the union.
/// Where name and number clash is a test of its own.
fn merge_service(view: &mut View, key: ServiceKey, said: &Service) {
    let worse = view.services.remove(&key);
    let (ports, labels, mut addresses, prefer) =
        worse.map(|worse| (worse.ports, worse.labels, worse.addresses, worse.prefer)).unwrap_or_default();
    addresses.extend(said.addresses.iter().cloned());
    let all = ports.into_iter().chain(said.ports.iter().cloned());
    let by_name: BTreeMap<_, _> = all.map(|port| ((port.name.clone(), port.number), port)).collect();
    let mut ports: Vec<ServicePort> = by_name.into_values().collect();
    ports.sort();
    let labels = labels.into_iter().chain(said.labels.clone()).collect();
    view.services
        .insert(key.clone(), Service { key, ports, labels, addresses, prefer: said.prefer.or(prefer) });
}

/// Whose an address is, by looking at everything.
fn owner(view: &View, address: &NetworkAddress) -> Option<AddressOwner> {
    if let Some(service) = view.services.values().find(|service| service.addresses.contains(address)) {
        return Some(AddressOwner::Service(service.key.clone()));
    }
    let has = |w: &&Workload| w.network == address.network && w.addresses.contains(&address.ip);
    let all: Vec<_> = view.workloads.values().filter(has).cloned().map(Arc::new).collect();
    let proxied: Vec<_> = all.iter().filter(|w| w.tunnel != Tunnel::None).cloned().collect();
    let owners = if proxied.is_empty() { all.into_iter().take(1).collect() } else { proxied };
    (!owners.is_empty()).then_some(AddressOwner::Workloads(owners))
}

/// All places where new work may go, and how: one line each.
fn offers(view: &View) -> BTreeSet<String> {
    let takes = |w: &&Workload| matches!(w.health, Health::Unknown | Health::Healthy) && w.weight > 0;
    let mut offers = BTreeSet::new();
    for w in view.workloads.values().filter(takes) {
        for (service, ports) in &w.services {
            for address in &w.addresses {
                let place =
                    format!("{} {service} {address} {} {:?} {:?}", w.id, w.network, w.tunnel, w.identity);
                offers.extend(ports.iter().map(|port| format!("{place} {}", port.number)));
                offers.insert(place);
            }
        }
    }
    offers
}

fn difference(before: &View, after: &View) -> Changes {
    let bare = |w: &Workload| Workload { provenance: BTreeSet::new(), ..w.clone() };
    let services = before.services.keys().chain(after.services.keys()).cloned();
    let workloads = before.workloads.keys().chain(after.workloads.keys()).cloned();
    Changes {
        services: services.filter(|key| before.services.get(key) != after.services.get(key)).collect(),
        workloads: workloads
            .filter(|id| before.workloads.get(id).map(bare) != after.workloads.get(id).map(bare))
            .collect(),
        urgent: !offers(before).is_subset(&offers(after)),
    }
}

/// What a snapshot shows, read through all its accessors.
fn shown(snapshot: &Snapshot) -> View {
    let view = View {
        services: snapshot.services().map(|service| (service.key.clone(), Service::clone(service))).collect(),
        workloads: snapshot
            .workloads()
            .map(|workload| (workload.id.clone(), Workload::clone(workload)))
            .collect(),
    };
    for key in view.services.keys() {
        assert!(snapshot.service(key).is_some());
        let members: Vec<&InstanceId> = snapshot.members(key).map(|member| &member.id).collect();
        let expected = view.workloads.values().filter(|workload| workload.services.contains_key(key));
        assert_eq!(members, expected.map(|workload| &workload.id).collect::<Vec<_>>(), "members of {key}");
        assert_eq!(snapshot.member_count(key), members.len());
        assert!(
            snapshot.members(key).all(|member| Arc::ptr_eq(member, snapshot.workload(&member.id).unwrap()))
        );
    }
    assert_eq!(
        (snapshot.service_count(), snapshot.workload_count()),
        (view.services.len(), view.workloads.len())
    );
    view
}

prop_compose! {
    fn any_workload(by: &'static str)(
        instance in 0..6_u8,
        services in subsequence(SERVICES.to_vec(), 0..=3),
        ports in prop::collection::vec((0..3_u16, any::<bool>()), 0..3),
        addresses in subsequence(ADDRESSES.to_vec(), 0..=2).prop_shuffle(),
        health in select(vec![Health::Unknown, Health::Healthy, Health::Healthy, Health::Draining, Health::Unhealthy]),
        weight in select(vec![0, 50, 100]),
        (tunnel, identity, network) in (any::<bool>(), any::<bool>(), select(NETWORKS.to_vec())),
        label in prop::option::of((select(vec!["x", "y"]), 0..2_u8)),
        object in 0..2_u8,
    ) -> Workload {
        let ports = ports.iter().map(|(number, tcp)| WorkloadPort {
            name: None, number: *number, protocol: if *tcp { Protocol::Tcp } else { Protocol::Http1 },
        });
        let ports: Vec<WorkloadPort> = ports.collect();
        let said = Workload {
            services: services.iter().map(|service| (key(service), ports.clone())).collect(),
            addresses: addresses.iter().map(|address| address.parse::<IpAddr>().unwrap()).collect(),
            network: network.parse().unwrap(),
            identity: identity.then(|| "spiffe://weft.local/ns/default/sa/web".parse().unwrap()),
            tunnel: if tunnel { Tunnel::Port(15008) } else { Tunnel::None },
            captured: false,
            weight, health,
            labels: label.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect(),
            ..workload(&instance.to_string(), &[])
        };
        seen_by(said, by, &object.to_string(), 0)
    }
}

prop_compose! {
    fn any_service()(
        name in select(SERVICES.to_vec()),
        ports in prop::collection::btree_map(select(vec!["", "http", "admin"]), any::<bool>(), 0..3),
        label in prop::option::of((select(vec!["x", "y"]), 0..2_u8)),
        addresses in subsequence(ADDRESSES.to_vec(), 0..=2),
        prefer in select(vec![None, Some(Prefer::Zone), Some(Prefer::NodeOnly)]),
    ) -> Service {
        let ports = ports.iter().map(|(name, tcp)| ServicePort {
            name: name.parse().ok(),
            number: if name.is_empty() { 80 } else { 0 },
            protocol: if *tcp { Protocol::Tcp } else { Protocol::Http1 },
        });
        let labels = label.iter().map(|(name, value)| ((*name).to_owned(), value.to_string()));
        let addresses = addresses.into_iter().map(|ip| format!("default/{ip}").parse().unwrap()).collect();
        Service { key: key(name), ports: ports.collect(), labels: labels.collect(), addresses, prefer }
    }
}

fn any_entries(by: &'static str) -> impl Strategy<Value = Vec<Entry>> {
    let entry = prop_oneof![
        3 => any_workload(by).prop_map(Entry::from),
        1 => any_service().prop_map(Entry::Service),
    ];
    prop::collection::vec(entry, 0..5)
}

fn any_event(by: &'static str) -> impl Strategy<Value = RegistryEvent> {
    let services =
        || subsequence(SERVICES.to_vec(), 0..=2).prop_map(|keys| keys.into_iter().map(key).collect());
    let some_key = prop_oneof![
        3 => (0..6_u8).prop_map(|instance| EntryKey::Workload(id(&instance.to_string()))),
        1 => select(SERVICES.to_vec()).prop_map(|service| EntryKey::Service(key(service))),
    ];
    prop_oneof![
        6 => any_entries(by).prop_map(RegistryEvent::Upsert),
        2 => prop::collection::vec(some_key, 0..4).prop_map(RegistryEvent::Remove),
        1 => any_entries(by).prop_map(|entries| RegistryEvent::Reset { scope: Scope::All, entries }),
        3 => (services(), any_entries(by))
            .prop_map(|(services, entries)| RegistryEvent::Reset { scope: Scope::Services(services), entries }),
    ]
}

fn any_mappings() -> impl Strategy<Value = BTreeMap<RegistryId, Mapping>> {
    let renamed =
        |from: &str, to: &str| Mapping { rename: [(key(from), key(to))].into(), ..Mapping::default() };
    let mapping = select(vec![
        Mapping::default(),
        Mapping { apart: true, ..Mapping::default() },
        // Makes two services of one registry one.
        Mapping { namespace: "shop".parse().ok(), ..Mapping::default() },
        renamed("web", "api"),
        Mapping { apart: true, ..renamed("shop/web", "web") },
    ]);
    prop::collection::btree_map(select(REGISTRIES.to_vec()).prop_map(registry), mapping, 0..3)
}

fn any_history() -> impl Strategy<Value = Vec<(RegistryId, RegistryEvent)>> {
    let step = select(REGISTRIES.to_vec())
        .prop_flat_map(|by| any_event(by).prop_map(move |event| (registry(by), event)));
    prop::collection::vec(step, 1..25)
}

/// The same event as said at that time.
fn at(now: u64, mut event: RegistryEvent) -> RegistryEvent {
    if let RegistryEvent::Upsert(entries) | RegistryEvent::Reset { entries, .. } = &mut event {
        for entry in entries {
            let Entry::Workload(workload) = entry else { continue };
            let workload = Arc::make_mut(workload);
            workload.provenance = std::mem::take(&mut workload.provenance)
                .into_iter()
                .map(|said| Provenance { since_unix_ms: now, ..said })
                .collect();
        }
    }
    event
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_view_the_changes_and_old_snapshots_are_those_of_the_naive_model(
        mappings in any_mappings(),
        history in any_history(),
    ) {
        let mut naive = Naive { mappings: mappings.clone(), ..Naive::default() };
        let mut catalog = Catalog::new(mappings);
        let mut taken = vec![(catalog.snapshot(), View::default())];
        for (now, (registry, event)) in (1..).zip(history) {
            let event = at(now, event);
            let (before_snapshot, before) = taken.last().unwrap().clone();
            naive.apply(&registry, event.clone(), now);
            let after = naive.view();
            let changes = catalog.apply(&registry, event);
            prop_assert_eq!(&changes, &difference(&before, &after));
            let snapshot = catalog.snapshot();
            let grown = u64::from(!changes.is_empty());
            prop_assert_eq!(snapshot.revision.0, before_snapshot.revision.0 + grown);
            prop_assert_eq!(&shown(&snapshot), &after);
            for address in ADDRESSES.iter().flat_map(|ip| NETWORKS.map(|network| format!("{network}/{ip}"))) {
                let address = address.parse().unwrap();
                prop_assert_eq!(snapshot.owner(&address), owner(&after, &address));
            }
            let of_registry = naive.held.keys().filter(|(by, _)| *by == registry).count();
            prop_assert_eq!(catalog.held_by(&registry), of_registry);
            taken.push((snapshot, after));
        }
        for (snapshot, view) in &taken {
            prop_assert_eq!(&shown(snapshot), view);
        }
    }

    #[test]
    fn the_order_in_which_registries_speak_does_not_matter(
        mappings in any_mappings(),
        said in REGISTRIES.map(any_entries),
        order in Just((0..REGISTRIES.len()).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let tell = |order: &[usize]| {
            let mut catalog = Catalog::new(mappings.clone());
            for i in order {
                let all = RegistryEvent::Reset { scope: Scope::All, entries: said[*i].clone() };
                catalog.apply(&registry(REGISTRIES[*i]), all);
            }
            shown(&catalog.snapshot())
        };
        prop_assert_eq!(tell(&order), tell(&[0, 1, 2, 3]));
    }

    #[test]
    fn absorbed_changes_cover_the_difference_between_the_ends(history in any_history()) {
        let mut catalog = Catalog::default();
        let mut absorbed = Changes::default();
        for (registry, event) in history {
            absorbed.absorb(catalog.apply(&registry, event));
        }
        let whole = difference(&View::default(), &shown(&catalog.snapshot()));
        prop_assert!(whole.services.is_subset(&absorbed.services));
        prop_assert!(whole.workloads.is_subset(&absorbed.workloads));
    }
}
