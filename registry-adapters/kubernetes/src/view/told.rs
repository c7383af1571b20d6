//! What the mesh was told, so that only what is different is told again.

use std::collections::HashMap;
use std::sync::Arc;

use weft_model::{Entry, EntryKey, InstanceId, RegistryEvent, Scope, Service, ServiceKey, Workload};

use crate::object::ObjectKey;

#[derive(Debug, Default)]
pub(super) struct Told {
    services: HashMap<ServiceKey, Service>,
    workloads: HashMap<InstanceId, Arc<Workload>>,
}

/// What is different from what was told.
#[derive(Debug, Default)]
pub(super) struct Change {
    upserts: Vec<Entry>,
    removals: Vec<EntryKey>,
}

impl Change {
    /// New instances come before old ones go.
    pub(super) fn events(self) -> Vec<RegistryEvent> {
        let Self { upserts, removals } = self;
        let upserts = (!upserts.is_empty()).then_some(RegistryEvent::Upsert(upserts));
        let removals = (!removals.is_empty()).then_some(RegistryEvent::Remove(removals));
        upserts.into_iter().chain(removals).collect()
    }
}

impl Told {
    pub(super) fn workload(&self, id: &InstanceId) -> Option<&Arc<Workload>> {
        self.workloads.get(id)
    }

    pub(super) fn ids(&self) -> Vec<InstanceId> {
        self.workloads.keys().cloned().collect()
    }

    pub(super) fn object_keys(&self) -> Vec<ObjectKey> {
        self.services.keys().map(|key| ObjectKey::new(key.namespace.as_str(), key.name.as_str())).collect()
    }

    /// All there is.
    pub(super) fn all(&self) -> RegistryEvent {
        let services = self.services.values().cloned().map(Entry::Service);
        let workloads = self.workloads.values().cloned().map(Entry::Workload);
        RegistryEvent::Reset { scope: Scope::All, entries: services.chain(workloads).collect() }
    }

    pub(super) fn put_service(&mut self, key: ServiceKey, after: Option<Service>, change: &mut Change) {
        match after {
            Some(after) if self.services.get(&key) == Some(&after) => {}
            Some(after) => {
                change.upserts.push(Entry::Service(after.clone()));
                self.services.insert(key, after);
            }
            None if self.services.remove(&key).is_some() => change.removals.push(EntryKey::Service(key)),
            None => {}
        }
    }

    pub(super) fn put_workload(&mut self, id: &InstanceId, after: Option<Workload>, change: &mut Change) {
        match after {
            Some(after) if self.workloads.get(id).is_some_and(|before| **before == after) => {}
            Some(after) => {
                let after = Arc::new(after);
                change.upserts.push(Entry::Workload(Arc::clone(&after)));
                self.workloads.insert(id.clone(), after);
            }
            None if self.workloads.remove(id).is_some() => {
                change.removals.push(EntryKey::Workload(id.clone()));
            }
            None => {}
        }
    }
}
