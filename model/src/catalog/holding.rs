//! What one registry holds, by the keys that the registry itself uses.
//!
//! The mapping is applied as an entry comes in, and the registry's own key is kept beside it: two services that a
//! mapping gives one name stay two here, so that a reset of one does not remove the other's workloads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::entry::{Entry, EntryKey, RegistryEvent, Scope};
use crate::mapping::Mapping;
use crate::merge::{canonical_service, canonical_workload};
use crate::name::{InstanceId, RegistryId, ServiceKey};
use crate::service::Service;
use crate::workload::{Provenance, Workload};

/// One registry's entries.
#[derive(Debug)]
pub(super) struct Holding {
    registry: RegistryId,
    mapping: Mapping,
    // By the mesh's key, then by the registry's own. No empty inner map.
    services: BTreeMap<ServiceKey, BTreeMap<ServiceKey, Arc<Service>>>,
    workloads: BTreeMap<InstanceId, Held>,
    // By the registry's own key, for scoped resets. No empty set.
    members: BTreeMap<ServiceKey, BTreeSet<InstanceId>>,
}

#[derive(Debug)]
struct Held {
    /// The services that it belongs to, by the registry's own keys.
    own_keys: Vec<ServiceKey>,
    /// The workload with the mesh's keys.
    workload: Arc<Workload>,
}

/// The mesh's keys whose merged value may have changed.
#[derive(Debug, Default)]
pub(super) struct Touched {
    pub(super) services: BTreeSet<ServiceKey>,
    pub(super) workloads: BTreeSet<InstanceId>,
}

impl Holding {
    pub(super) fn new(registry: RegistryId, mapping: Mapping) -> Self {
        let (services, workloads, members) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { registry, mapping, services, workloads, members }
    }

    /// From now on entries are named by `mapping`; those that are there keep their names.
    pub(super) fn set_mapping(&mut self, mapping: Mapping) {
        self.mapping = mapping;
    }

    /// All entries, by the mesh's keys.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let services =
            self.services.values().flat_map(BTreeMap::values).map(|one| Entry::Service(one.as_ref().clone()));
        let workloads = self.workloads.values().map(|held| Entry::Workload(Arc::clone(&held.workload)));
        services.chain(workloads).collect()
    }

    /// The entry of a key of the mesh. Of several services with one name it is the one that a restore leaves: the last.
    pub(super) fn entry(&self, key: &EntryKey) -> Option<Entry> {
        match key {
            EntryKey::Service(key) => {
                self.declared(key).last().map(|service| Entry::Service(service.as_ref().clone()))
            }
            EntryKey::Workload(id) => self.workload(id).cloned().map(Entry::Workload),
        }
    }

    /// How many entries it has.
    pub(super) fn len(&self) -> usize {
        self.workloads.len() + self.services.values().map(BTreeMap::len).sum::<usize>()
    }

    pub(super) fn workload(&self, id: &InstanceId) -> Option<&Arc<Workload>> {
        self.workloads.get(id).map(|held| &held.workload)
    }

    /// The declarations of a service of the mesh: more than one where the mapping gives several the same name.
    pub(super) fn declared(&self, key: &ServiceKey) -> impl Iterator<Item = &Arc<Service>> {
        self.services.get(key).into_iter().flat_map(BTreeMap::values)
    }

    pub(super) fn apply(&mut self, event: RegistryEvent) -> Touched {
        let mut touched = Touched::default();
        let upserts = match event {
            RegistryEvent::Upsert(entries) => entries,
            RegistryEvent::Remove(keys) => {
                keys.iter().for_each(|key| self.remove(key, &mut touched));
                Vec::new()
            }
            RegistryEvent::Reset { scope, entries } => {
                let listed: BTreeSet<EntryKey> = entries.iter().map(Entry::key).collect();
                for key in self.within(&scope).iter().filter(|key| !listed.contains(key)) {
                    self.remove(key, &mut touched);
                }
                entries
            }
        };
        for entry in upserts {
            match entry {
                Entry::Service(service) => self.put_service(service, &mut touched),
                Entry::Workload(workload) => self.put_workload(&workload, &mut touched),
            }
        }
        touched
    }

    /// The keys of all entries that a reset of `scope` speaks for.
    fn within(&self, scope: &Scope) -> Vec<EntryKey> {
        match scope {
            Scope::All => {
                let services =
                    self.services.values().flat_map(BTreeMap::keys).cloned().map(EntryKey::Service);
                services.chain(self.workloads.keys().cloned().map(EntryKey::Workload)).collect()
            }
            Scope::Services(keys) => keys
                .iter()
                .flat_map(|key| {
                    let members = self.members.get(key).into_iter().flatten().cloned();
                    members.map(EntryKey::Workload).chain([EntryKey::Service(key.clone())])
                })
                .collect(),
        }
    }

    fn put_service(&mut self, said: Service, touched: &mut Touched) {
        let own_key = said.key.clone();
        let key = self.mapping.apply(&self.registry, &own_key);
        let service = canonical_service(Service { key: key.clone(), ..said });
        let same_name = self.services.entry(key.clone()).or_default();
        if same_name.get(&own_key).is_some_and(|held| **held == service) {
            return;
        }
        same_name.insert(own_key, Arc::new(service));
        touched.services.insert(key);
    }

    fn put_workload(&mut self, said: &Arc<Workload>, touched: &mut Touched) {
        let own_keys: Vec<ServiceKey> = said.services.keys().cloned().collect();
        let mut workload = canonical_workload(self.named_by_mesh(Workload::clone(said)));
        if let Some(held) = self.workloads.get(&workload.id) {
            keep_since(&mut workload, &held.workload);
            if *held.workload == workload && held.own_keys == own_keys {
                return;
            }
        }
        // What is as it was said is shared with who said it.
        let workload = if workload == **said { Arc::clone(said) } else { Arc::new(workload) };
        let id = workload.id.clone();
        self.forget_workload(&id);
        for key in &own_keys {
            self.members.entry(key.clone()).or_default().insert(id.clone());
        }
        self.workloads.insert(id.clone(), Held { own_keys, workload });
        touched.workloads.insert(id);
    }

    /// The workload with the mesh's names of its services. Two that become one have the ports of both.
    fn named_by_mesh(&self, mut workload: Workload) -> Workload {
        for (own_key, ports) in std::mem::take(&mut workload.services) {
            let key = self.mapping.apply(&self.registry, &own_key);
            workload.services.entry(key).or_default().extend(ports);
        }
        workload
    }

    fn remove(&mut self, key: &EntryKey, touched: &mut Touched) {
        match key {
            EntryKey::Workload(id) => {
                if self.forget_workload(id) {
                    touched.workloads.insert(id.clone());
                }
            }
            EntryKey::Service(own_key) => {
                let key = self.mapping.apply(&self.registry, own_key);
                let Some(same_name) = self.services.get_mut(&key) else { return };
                let was_there = same_name.remove(own_key).is_some();
                if same_name.is_empty() {
                    self.services.remove(&key);
                }
                if was_there {
                    touched.services.insert(key);
                }
            }
        }
    }

    /// Takes a workload out, also from the services' members. Whether it was there.
    fn forget_workload(&mut self, id: &InstanceId) -> bool {
        let Some(held) = self.workloads.remove(id) else { return false };
        for key in &held.own_keys {
            let Some(members) = self.members.get_mut(key) else { continue };
            members.remove(id);
            if members.is_empty() {
                self.members.remove(key);
            }
        }
        true
    }
}

/// A workload has been there since this registry first showed it, however often it is said again.
fn keep_since(workload: &mut Workload, held: &Workload) {
    if workload.provenance == held.provenance {
        return;
    }
    let first_seen = |registry: &RegistryId| {
        held.provenance.iter().filter(|old| old.registry == *registry).map(|old| old.since_unix_ms).min()
    };
    workload.provenance = std::mem::take(&mut workload.provenance)
        .into_iter()
        .map(|new| {
            let since_unix_ms =
                first_seen(&new.registry).map_or(new.since_unix_ms, |old| old.min(new.since_unix_ms));
            Provenance { since_unix_ms, ..new }
        })
        .collect();
}
