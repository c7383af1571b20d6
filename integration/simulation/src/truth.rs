//! What a registry really holds, now and before, and what it says of itself.
//!
//! The history is what the invariants are measured against: whether an instance took work for a service all the time
//! between two moments. Instances have one registry each, since an instance has one orchestrator.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weft_model::{
    Entry, EntryKey, Health, InstanceId, Network, Provenance, RegistryId, Service, ServiceKey, Tunnel,
    Workload,
};

use crate::rng::Rng;

/// What has this weight can't be read by the proxies of the old version.
pub(crate) const UNREADABLE: u32 = 7;
/// Instances that a registry has at the most.
const INSTANCES: usize = 8;

/// How a registry answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Up,
    Down,
    Denied,
    NotFound,
    Garbage,
    /// It has just restarted, and lists nothing.
    Empty,
}

/// A registry.
#[derive(Debug)]
pub(crate) struct Truth {
    pub(crate) id: RegistryId,
    pub(crate) required: bool,
    pub(crate) condition: Condition,
    /// How long it takes to answer at the most.
    pub(crate) slow: Duration,
    /// How long it is quiet between two changes at the most, in milliseconds.
    pub(crate) quiet: u64,
    pub(crate) entries: BTreeMap<EntryKey, Entry>,
    /// For which services an instance took work, from when on.
    history: BTreeMap<InstanceId, Vec<(Duration, BTreeSet<ServiceKey>)>>,
}

/// The name of the `n`-th service.
pub(crate) fn service_key(n: usize) -> ServiceKey {
    format!("default/s{n}").parse().expect("a legal name")
}

impl Truth {
    pub(crate) fn new(n: usize, required: bool) -> Self {
        let id = format!("consul/dc{n}").parse().expect("a legal name");
        let (entries, history) = (BTreeMap::new(), BTreeMap::new());
        let (condition, slow) = (Condition::Up, Duration::from_millis(200));
        Self { id, required, condition, slow, quiet: 4_000, entries, history }
    }

    /// Something changes; says what.
    pub(crate) fn change(&mut self, now: Duration, services: usize, nacks: bool, rng: &mut Rng) -> String {
        let instance = self.instance(rng.below(INSTANCES));
        match rng.below(20) {
            0..=8 => {
                let workload = self.random(&instance, services, nacks, rng);
                let what =
                    format!("{instance}: {} x{} of {:?}", workload.health, workload.weight, names(&workload));
                self.put(now, workload);
                what
            }
            9..=11 => self.flap(now, &instance, rng),
            12..=14 => {
                self.remove(now, &EntryKey::Workload(instance.clone()));
                format!("{instance} is gone")
            }
            15 | 16 => self.declare(&service_key(rng.below(services))),
            17 => {
                let key = service_key(rng.below(services));
                self.remove(now, &EntryKey::Service(key.clone()));
                format!("{key} is not declared")
            }
            _ => self.drop_service(now, &service_key(rng.below(services))),
        }
    }

    fn instance(&self, n: usize) -> InstanceId {
        format!("{}/n/{n}", self.id).parse().expect("a legal name")
    }

    fn random(&self, instance: &InstanceId, services: usize, nacks: bool, rng: &mut Rng) -> Workload {
        let count = 1 + rng.below(2);
        let health = [Health::Healthy, Health::Healthy, Health::Unknown, Health::Draining, Health::Unhealthy];
        let weight = match rng.below(10) {
            0 if nacks => UNREADABLE,
            1 => 0,
            n => 100 + n as u32,
        };
        Workload {
            id: instance.clone(),
            services: (0..count).map(|_| (service_key(rng.below(services)), Vec::new())).collect(),
            addresses: vec![[10, 0, 0, rng.between(1, 3) as u8].into()],
            network: Network::default_network(),
            identity: None,
            tunnel: Tunnel::Port(15006),
            captured: false,
            locality: Default::default(),
            node: None,
            weight,
            health: health[rng.below(health.len())],
            labels: BTreeMap::new(),
            provenance: BTreeSet::from([Provenance {
                registry: self.id.clone(),
                object: format!("node/{}", rng.below(3)),
                since_unix_ms: rng.next() % 1000,
            }]),
        }
    }

    fn flap(&mut self, now: Duration, instance: &InstanceId, rng: &mut Rng) -> String {
        let Some(Entry::Workload(workload)) = self.entries.get(&EntryKey::Workload(instance.clone())) else {
            return format!("{instance} is not there to flap");
        };
        let mut workload = Workload::clone(workload);
        let well = workload.health.takes_new_work();
        workload.health = if well { Health::Unhealthy } else { Health::Healthy };
        if rng.percent(30) {
            workload.weight = 100;
        }
        let what = format!("{instance} is {} now", workload.health);
        self.put(now, workload);
        what
    }

    fn declare(&mut self, key: &ServiceKey) -> String {
        let service = Service {
            key: key.clone(),
            ports: Vec::new(),
            labels: BTreeMap::new(),
            addresses: Default::default(),
            prefer: None,
        };
        self.entries.insert(EntryKey::Service(key.clone()), Entry::Service(service));
        format!("{key} is declared")
    }

    /// All instances of a service go.
    fn drop_service(&mut self, now: Duration, key: &ServiceKey) -> String {
        let of = |entry: &Entry| matches!(entry, Entry::Workload(one) if one.services.contains_key(key));
        let gone: Vec<EntryKey> =
            self.entries.iter().filter(|(_, entry)| of(entry)).map(|(key, _)| key.clone()).collect();
        gone.iter().for_each(|key| self.remove(now, key));
        format!("all {} instances of {key} are gone", gone.len())
    }

    /// Takes a whole service out, as entries of the registry `to`.
    pub(crate) fn hand_over(&mut self, now: Duration, key: &ServiceKey, to: &Truth) -> Vec<Workload> {
        let mut moved = Vec::new();
        let members: Vec<Workload> =
            self.workloads().filter(|one| one.services.contains_key(key)).cloned().collect();
        for (n, mut workload) in members.into_iter().enumerate() {
            self.remove(now, &EntryKey::Workload(workload.id.clone()));
            workload.id = to.instance(INSTANCES + n);
            workload.provenance.clear();
            moved.push(workload);
        }
        moved
    }

    pub(crate) fn workloads(&self) -> impl Iterator<Item = &Workload> {
        self.entries.values().filter_map(|entry| match entry {
            Entry::Workload(workload) => Some(workload.as_ref()),
            Entry::Service(_) => None,
        })
    }

    pub(crate) fn put(&mut self, now: Duration, workload: Workload) {
        self.note(now, &workload.id, works_for(&workload));
        self.entries.insert(EntryKey::Workload(workload.id.clone()), workload.into());
    }

    fn remove(&mut self, now: Duration, key: &EntryKey) {
        if let (Some(_), EntryKey::Workload(id)) = (self.entries.remove(key), key) {
            self.note(now, id, BTreeSet::new());
        }
    }

    fn note(&mut self, now: Duration, id: &InstanceId, services: BTreeSet<ServiceKey>) {
        self.history.entry(id.clone()).or_default().push((now, services));
    }

    /// The services that an instance took work for at every moment from `since` on.
    pub(crate) fn always_since(&self, id: &InstanceId, since: Duration) -> BTreeSet<ServiceKey> {
        let Some(history) = self.history.get(id) else { return BTreeSet::new() };
        // What changed in the very moment of a reading may be in it or not.
        let first = history.iter().rposition(|(at, _)| *at < since);
        let Some(first) = first else { return BTreeSet::new() };
        let mut states = history.iter().skip(first).map(|(_, services)| services.clone());
        let start = states.next().unwrap_or_default();
        states.fold(start, |all, services| all.intersection(&services).cloned().collect())
    }

    /// All instances that ever were.
    pub(crate) fn instances(&self) -> impl Iterator<Item = &InstanceId> {
        self.history.keys()
    }
}

/// The services that it takes new work for.
pub(crate) fn works_for(workload: &Workload) -> BTreeSet<ServiceKey> {
    match workload.health.takes_new_work() && workload.weight > 0 {
        true => workload.services.keys().cloned().collect(),
        false => BTreeSet::new(),
    }
}

fn names(workload: &Workload) -> Vec<String> {
    workload.services.keys().map(ToString::to_string).collect()
}
