//! The instances of all services, merged by id, and the scoped events that follow from a change.
//!
//! For sources that list one service at a time (Consul, Nomad): an instance that several of their services hold is one workload that belongs to all of them. A change costs the services
//! it touches, not what exists.

use std::collections::{BTreeMap, BTreeSet};

use weft_model::{Entry, InstanceId, RegistryEvent, Scope, ServiceKey, Workload};

/// The instances of all services of a source; `T` is what the source has them by.
#[derive(Debug)]
pub struct Instances<T> {
    by_target: BTreeMap<T, Vec<Workload>>,
    owners: BTreeMap<InstanceId, BTreeSet<T>>,
    merged: BTreeMap<InstanceId, Workload>,
    members: BTreeMap<ServiceKey, BTreeSet<InstanceId>>,
}

impl<T> Default for Instances<T> {
    fn default() -> Self {
        Self {
            by_target: BTreeMap::new(),
            owners: BTreeMap::new(),
            merged: BTreeMap::new(),
            members: BTreeMap::new(),
        }
    }
}

impl<T: Ord + Clone> Instances<T> {
    /// What the last answer made of a service.
    pub fn of(&self, target: &T) -> &[Workload] {
        self.by_target.get(target).map_or(&[], Vec::as_slice)
    }

    /// All there are, merged.
    pub fn all(&self) -> impl Iterator<Item = Workload> {
        self.merged.values().cloned()
    }

    /// Everything, as an event that speaks for the services it names and no others.
    pub fn everything_scoped(&self) -> Option<RegistryEvent> {
        self.reset(self.members.keys().cloned().collect())
    }

    /// Sets a service's instances. `None` where nothing changed.
    pub fn replace(&mut self, target: &T, workloads: Vec<Workload>) -> Option<RegistryEvent> {
        if self.of(target) == workloads.as_slice() {
            return None;
        }
        let services = self.put(target, workloads);
        self.reset(services)
    }

    /// Takes services out, with one event for all of them.
    pub fn remove(&mut self, targets: &[T]) -> Option<RegistryEvent> {
        let services = targets.iter().flat_map(|target| self.put(target, Vec::new())).collect();
        self.reset(services)
    }

    /// Puts a service's instances and returns the mesh services that this touches.
    fn put(&mut self, target: &T, workloads: Vec<Workload>) -> BTreeSet<ServiceKey> {
        let fresh: BTreeSet<InstanceId> = workloads.iter().map(|workload| workload.id.clone()).collect();
        let old = if workloads.is_empty() {
            self.by_target.remove(target)
        } else {
            self.by_target.insert(target.clone(), workloads)
        };
        for stale in old.iter().flatten().filter(|workload| !fresh.contains(&workload.id)) {
            if let Some(owners) = self.owners.get_mut(&stale.id) {
                owners.remove(target);
            }
        }
        for id in &fresh {
            self.owners.entry(id.clone()).or_default().insert(target.clone());
        }
        let touched: BTreeSet<InstanceId> =
            old.into_iter().flatten().map(|workload| workload.id).chain(fresh).collect();
        touched.iter().flat_map(|id| self.merge(id)).collect()
    }

    /// Merges one instance anew and returns the services it was in and is in.
    fn merge(&mut self, id: &InstanceId) -> BTreeSet<ServiceKey> {
        let owners = self.owners.get(id).into_iter().flatten();
        let of_owner = |target| self.of(target).iter().find(|workload| &workload.id == id);
        let merged = owners.filter_map(of_owner).cloned().reduce(union);
        if merged.is_none() {
            self.owners.remove(id);
        }
        let keys = |workload: &Workload| workload.services.keys().cloned().collect::<BTreeSet<_>>();
        let after = merged.as_ref().map(keys).unwrap_or_default();
        let before = match merged {
            Some(workload) => self.merged.insert(id.clone(), workload),
            None => self.merged.remove(id),
        };
        let before = before.as_ref().map(keys).unwrap_or_default();
        for service in before.difference(&after) {
            let Some(members) = self.members.get_mut(service) else { continue };
            members.remove(id);
            if members.is_empty() {
                self.members.remove(service);
            }
        }
        for service in after.difference(&before) {
            self.members.entry(service.clone()).or_default().insert(id.clone());
        }
        before.into_iter().chain(after).collect()
    }

    fn reset(&self, services: BTreeSet<ServiceKey>) -> Option<RegistryEvent> {
        if services.is_empty() {
            return None;
        }
        let ids: BTreeSet<&InstanceId> =
            services.iter().filter_map(|service| self.members.get(service)).flatten().collect();
        let entries =
            ids.into_iter().filter_map(|id| self.merged.get(id)).cloned().map(Entry::from).collect();
        Some(RegistryEvent::Reset { scope: Scope::Services(services.into_iter().collect()), entries })
    }
}

/// One instance as two services show it: in both, as the first describes it, with the worse health.
fn union(mut first: Workload, second: Workload) -> Workload {
    first.health = first.health.max(second.health);
    for (service, ports) in second.services {
        first.services.entry(service).or_insert(ports);
    }
    for (key, value) in second.labels {
        first.labels.entry(key).or_insert(value);
    }
    first.provenance.extend(second.provenance);
    first
}
