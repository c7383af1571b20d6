//! The guard against single cases, and against a naive model of what a registry holds.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;
use weft_model::{Health, InstanceId, Locality, Network, Service, Tunnel, Workload};

use super::*;

fn service(name: &str) -> ServiceKey {
    name.parse().unwrap()
}

fn workload(name: &str, services: &[&str]) -> Entry {
    Entry::from(Workload {
        id: id(name),
        services: services.iter().map(|name| (service(name), Vec::new())).collect(),
        addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        network: Network::default_network(),
        identity: None,
        tunnel: Tunnel::None,
        captured: false,
        locality: Locality::default(),
        node: None,
        weight: Workload::DEFAULT_WEIGHT,
        health: Health::Healthy,
        labels: BTreeMap::new(),
        provenance: BTreeSet::new(),
    })
}

fn id(name: &str) -> InstanceId {
    format!("file/t/{name}").parse().unwrap()
}

fn key(name: &str) -> EntryKey {
    EntryKey::Workload(id(name))
}

fn all(names: &[&str]) -> RegistryEvent {
    reset(Scope::All, names)
}

fn reset(scope: Scope, names: &[&str]) -> RegistryEvent {
    RegistryEvent::Reset { scope, entries: names.iter().map(|name| workload(name, &["api"])).collect() }
}

/// What a catalog would hold after the events.
fn apply(held: &mut BTreeMap<EntryKey, Entry>, event: &RegistryEvent) {
    match event {
        RegistryEvent::Upsert(entries) => {
            held.extend(entries.iter().map(|entry| (entry.key(), entry.clone())))
        }
        RegistryEvent::Remove(keys) => keys.iter().for_each(|key| {
            held.remove(key);
        }),
        RegistryEvent::Reset { scope, entries } => {
            held.retain(|_, entry| !in_scope(scope, entry));
            held.extend(entries.iter().map(|entry| (entry.key(), entry.clone())));
        }
    }
}

fn in_scope(scope: &Scope, entry: &Entry) -> bool {
    let Scope::Services(services) = scope else { return true };
    match entry {
        Entry::Service(Service { key, .. }) => services.contains(key),
        Entry::Workload(workload) => workload.services.keys().any(|key| services.contains(key)),
    }
}

struct Bench {
    guard: Guard,
    held: BTreeMap<EntryKey, Entry>,
    start: Instant,
}

impl Bench {
    fn with(names: &[&str]) -> Self {
        let guard = Guard::new(GuardSettings::default());
        let mut bench = Self { guard, held: BTreeMap::new(), start: Instant::now() };
        assert!(!bench.at(0, all(names)));
        bench
    }

    /// Judges and applies; whether the holding changed.
    fn at(&mut self, seconds: u64, event: RegistryEvent) -> bool {
        let verdict = self.guard.judge(event, self.start + Duration::from_secs(seconds));
        verdict.events.iter().for_each(|event| apply(&mut self.held, event));
        verdict.held_changed
    }

    fn names(&self) -> Vec<&str> {
        self.held
            .keys()
            .map(|key| match key {
                EntryKey::Workload(id) => id.as_str().rsplit('/').next().unwrap(),
                EntryKey::Service(key) => key.name.as_str(),
            })
            .collect()
    }
}

#[test]
fn a_listing_that_loses_half_is_believed_and_one_that_loses_more_is_held() {
    let mut bench = Bench::with(&["a", "b", "c", "d"]);
    assert!(!bench.at(1, all(&["a", "b"])));
    assert_eq!(bench.names(), ["a", "b"]);
    let mut bench = Bench::with(&["a", "b", "c", "d"]);
    assert!(bench.at(1, all(&["a"])));
    assert_eq!(bench.names(), ["a", "b", "c", "d"]);
    assert_eq!(bench.guard.held_back(), (3, 4));
}

#[test]
fn a_single_workload_may_vanish() {
    let mut bench = Bench::with(&["a"]);
    assert!(!bench.at(1, all(&[])));
    assert!(bench.names().is_empty());
}

fn without_services(names: &[&str]) -> RegistryEvent {
    RegistryEvent::Reset {
        scope: Scope::All,
        entries: names.iter().map(|name| workload(name, &[])).collect(),
    }
}

#[test]
fn a_listing_in_which_most_are_in_no_service_is_held_as_one_that_lacks_them() {
    let mut bench = Bench::with(&["a", "b", "c"]);
    let before = bench.held.clone();
    assert!(bench.at(1, without_services(&["a", "b", "c"])));
    assert_eq!((bench.guard.held_back(), &bench.held), ((3, 3), &before));
    assert!(!bench.at(2, without_services(&["a", "b", "c"])), "no one came back");
    assert!(bench.at(601, without_services(&["a", "b"])));
    assert_eq!(bench.names(), ["a", "b"]);
    assert!(bench.held.values().all(|entry| *entry == workload(name_of(entry), &[])));
    assert_eq!(bench.guard.held_back(), (0, 2));
}

#[test]
fn one_of_many_may_leave_its_services() {
    let mut bench = Bench::with(&["a", "b", "c"]);
    let RegistryEvent::Reset { scope, mut entries } = all(&["a", "b"]) else { unreachable!() };
    entries.push(workload("c", &[]));
    assert!(!bench.at(1, RegistryEvent::Reset { scope, entries }));
    assert_eq!(bench.held[&key("c")], workload("c", &[]));
}

fn name_of(entry: &Entry) -> &str {
    let Entry::Workload(workload) = entry else { panic!("no workload: {entry:?}") };
    workload.id.as_str().rsplit('/').next().unwrap()
}

#[test]
fn a_second_read_confirms_only_when_it_is_late_enough() {
    let mut bench = Bench::with(&["a", "b", "c"]);
    bench.at(10, all(&["a"]));
    assert!(!bench.at(39, all(&["a"])), "a read too early changed something");
    assert_eq!(bench.names().len(), 3);
    assert!(bench.at(40, all(&["a"])));
    assert_eq!(bench.names(), ["a"]);
    assert_eq!(bench.guard.reread_due(), None);
}

#[test]
fn a_listing_that_leaves_nothing_is_doubted_for_longer() {
    let mut bench = Bench::with(&["a", "b", "c"]);
    bench.at(10, all(&[]));
    assert!(!bench.at(609, all(&[])), "a read too early changed something");
    assert_eq!(bench.names().len(), 3);
    assert!(bench.at(610, all(&[])));
    assert!(bench.names().is_empty());
    assert_eq!(bench.guard.reread_due(), None);
}

#[test]
fn while_an_emptied_source_fills_again_the_others_are_waited_for() {
    let mut bench = Bench::with(&["a", "b", "c", "d", "e"]);
    bench.at(10, all(&[]));
    // Each of these would confirm what is still missing, and the third is no large loss any more.
    bench.at(60, all(&["a"]));
    bench.at(85, all(&["a", "b"]));
    bench.at(110, all(&["a", "b", "c"]));
    assert_eq!(bench.names(), ["a", "b", "c", "d", "e"]);
    bench.at(139, all(&["a", "b", "c", "d"]));
    assert_eq!(bench.names().len(), 5);
    // Nothing more comes.
    assert!(bench.at(170, all(&["a", "b", "c", "d"])));
    assert_eq!(bench.names(), ["a", "b", "c", "d"]);
}

#[test]
fn a_second_read_that_lists_them_again_cancels() {
    let mut bench = Bench::with(&["a", "b", "c"]);
    bench.at(10, all(&["a"]));
    assert!(bench.at(40, all(&["a", "b", "c"])));
    assert_eq!(bench.names(), ["a", "b", "c"]);
    assert_eq!(bench.guard.reread_due(), None);
    // And a later loss starts its own time.
    assert!(bench.at(50, all(&["a"])));
    assert_eq!(bench.names(), ["a", "b", "c"]);
}

#[test]
fn what_a_held_listing_does_list_is_taken_at_once() {
    let mut bench = Bench::with(&["a", "b", "c"]);
    bench.at(10, all(&["new"]));
    assert_eq!(bench.names(), ["a", "b", "c", "new"]);
}

#[test]
fn what_is_removed_one_by_one_is_never_held_and_ends_the_holding() {
    let mut bench = Bench::with(&["a", "b", "c"]);
    bench.at(10, all(&["a"]));
    assert!(bench.at(11, RegistryEvent::Remove(vec![key("b"), key("c")])));
    assert_eq!(bench.names(), ["a"]);
    assert_eq!(bench.guard.held_back().0, 0);
    bench.at(12, RegistryEvent::Remove(vec![key("a")]));
    assert!(bench.names().is_empty());
}

#[test]
fn changes_outside_the_held_listing_flow() {
    let mut bench = Bench::with(&["a", "b", "c"]);
    bench.at(10, all(&[]));
    bench.at(11, RegistryEvent::Upsert(vec![workload("d", &["web"])]));
    bench.at(12, RegistryEvent::Reset { scope: Scope::Services(vec![service("web")]), entries: Vec::new() });
    assert_eq!(bench.names(), ["a", "b", "c"]);
}

#[test]
fn a_read_of_another_service_confirms_nothing() {
    let mut bench = Bench::with(&["a", "b", "c"]);
    bench.at(10, all(&[]));
    bench.at(60, RegistryEvent::Reset { scope: Scope::Services(vec![service("web")]), entries: Vec::new() });
    assert_eq!(bench.names().len(), 3);
}

#[test]
fn services_that_vanish_together_with_their_workloads_wait_with_them() {
    let mut bench = Bench::with(&["a", "b", "c"]);
    let declared = Service {
        key: service("api"),
        ports: Vec::new(),
        labels: BTreeMap::new(),
        addresses: Default::default(),
        prefer: None,
    };
    bench.at(1, RegistryEvent::Upsert(vec![Entry::Service(declared)]));
    bench.at(10, RegistryEvent::Reset { scope: Scope::Services(vec![service("api")]), entries: Vec::new() });
    assert_eq!(bench.names().len(), 4);
    bench.at(610, RegistryEvent::Reset { scope: Scope::Services(vec![service("api")]), entries: Vec::new() });
    assert!(bench.names().is_empty());
}

#[test]
fn a_second_read_is_due_after_the_time_and_again_while_none_comes() {
    let mut bench = Bench::with(&["a", "b", "c"]);
    bench.at(10, all(&[]));
    let at = |seconds| Some(bench.start + Duration::from_secs(seconds));
    assert_eq!(bench.guard.reread_due(), at(40));
    bench.guard.reread_asked(bench.start + Duration::from_secs(41));
    assert_eq!(bench.guard.reread_due(), at(71));
}

#[test]
fn a_reset_of_everything_that_was_not_passed_on_whole_is_asked_for_again() {
    // What was restored under another name is not known to the guard: only a whole Reset takes it away.
    let mut bench = Bench::with(&["a", "b", "c"]);
    bench.at(10, all(&[]));
    bench.at(11, RegistryEvent::Upsert(["a", "b", "c"].map(|name| workload(name, &["api"])).into()));
    assert_eq!(bench.guard.held_back().0, 0);
    assert!(bench.guard.reread_due().is_some());
    bench.at(40, all(&["a", "b", "c"]));
    assert_eq!(bench.guard.reread_due(), None);
}

#[test]
fn switched_off_it_believes_everything() {
    let mut bench = Bench::with(&["a", "b", "c"]);
    bench.guard.settings.enabled = false;
    assert!(!bench.at(1, all(&[])));
    assert!(bench.names().is_empty());
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let services = prop::sample::subsequence(vec!["s0", "s1", "s2"], 0..=3);
    (0..8u8, services).prop_map(|(n, services)| workload(&format!("w{n}"), &services))
}

fn any_entries() -> impl Strategy<Value = Vec<Entry>> {
    prop::collection::vec(any_entry(), 0..6).prop_map(|entries| {
        let unique: BTreeMap<EntryKey, Entry> =
            entries.into_iter().map(|entry| (entry.key(), entry)).collect();
        unique.into_values().collect()
    })
}

fn any_event() -> impl Strategy<Value = RegistryEvent> {
    let scope = prop_oneof![
        Just(Scope::All),
        prop::sample::subsequence(vec!["s0", "s1", "s2"], 1..=2)
            .prop_map(|names| Scope::Services(names.into_iter().map(service).collect())),
    ];
    let keys = prop::collection::vec(0..8u8, 0..3);
    prop_oneof![
        2 => (scope, any_entries()).prop_map(|(scope, entries)| RegistryEvent::Reset { scope, entries }),
        1 => any_entries().prop_map(RegistryEvent::Upsert),
        1 => keys.prop_map(|keys| {
            RegistryEvent::Remove(keys.into_iter().map(|n| key(&format!("w{n}"))).collect())
        }),
    ]
}

proptest! {
    /// With and without the guard the registry ends in the same state once every held absence was read again late enough,
    /// and on the way the guarded one only ever has more.
    #[test]
    fn a_guarded_registry_never_has_less_and_agrees_in_the_end(
        events in prop::collection::vec((any_event(), 0u64..40), 0..30),
    ) {
        let mut guard = Guard::new(GuardSettings::default());
        let (mut guarded, mut bare) = (BTreeMap::new(), BTreeMap::new());
        let mut now = Instant::now();
        for (event, pause) in events {
            now += Duration::from_secs(pause);
            apply(&mut bare, &event);
            for event in guard.judge(event, now).events {
                apply(&mut guarded, &event);
            }
            let kept: Vec<_> = guarded.iter().filter(|(key, entry)| bare.get(*key) != Some(entry)).collect();
            prop_assert!(bare.keys().all(|key| guarded.contains_key(key)));
            let empty = |entry: &Entry| *entry == workload(name_of(entry), &[]);
            prop_assert!(kept.iter().all(|(key, _)| bare.get(*key).is_none_or(empty)));
            prop_assert_eq!((kept.len(), guarded.len()), guard.held_back());
            prop_assert!(kept.is_empty() || guard.reread_due().is_some());
        }
        now += Duration::from_secs(600);
        let listing = RegistryEvent::Reset { scope: Scope::All, entries: bare.values().cloned().collect() };
        for event in guard.judge(listing, now).events {
            apply(&mut guarded, &event);
        }
        prop_assert_eq!(guarded, bare);
        prop_assert_eq!(guard.held_back().0, 0);
        prop_assert_eq!(guard.reread_due(), None);
    }
}
