//! The merged view at one moment. Immutable for who holds it, and free to copy.
//!
//! Persistent maps of shared values: two snapshots share all that did not change between them, so that a change costs
//! what changed and an old snapshot costs only its difference. The catalog writes to its own copy; nobody else can.
//! It holds no freshness and no policy: those change at another pace.

use std::sync::Arc;

use imbl::OrdMap;
use serde::ser::{Serialize, SerializeStruct, Serializer};

use crate::changes::Revision;
use crate::name::{InstanceId, ServiceKey};
use crate::owner::Claims;
use crate::service::{NetworkAddress, Service};
use crate::workload::Workload;

/// All services and workloads of the mesh, merged over all registries, at one revision.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Grows with every change of meaning.
    pub revision: Revision,
    services: OrdMap<ServiceKey, Arc<Service>>,
    workloads: OrdMap<InstanceId, Arc<Workload>>,
    // No empty inner map. The values are those of `workloads`, so that listing a service needs no look-ups.
    members: OrdMap<ServiceKey, OrdMap<InstanceId, Arc<Workload>>>,
    // No empty claims.
    addresses: OrdMap<NetworkAddress, Claims>,
}

impl Snapshot {
    /// A service that is declared or has workloads.
    pub fn service(&self, key: &ServiceKey) -> Option<&Arc<Service>> {
        self.services.get(key)
    }

    /// An instance.
    pub fn workload(&self, id: &InstanceId) -> Option<&Arc<Workload>> {
        self.workloads.get(id)
    }

    /// All services, in the order of their keys.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// All workloads, in the order of their ids.
    pub fn workloads(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.workloads.values()
    }

    /// The workloads of one service, in the order of their ids, whatever their health.
    pub fn members(&self, service: &ServiceKey) -> impl Iterator<Item = &Arc<Workload>> {
        self.members.get(service).into_iter().flat_map(OrdMap::values)
    }

    /// How many services there are.
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// How many workloads there are.
    pub fn workload_count(&self) -> usize {
        self.workloads.len()
    }

    /// How many addresses somebody has.
    pub fn address_count(&self) -> usize {
        self.addresses.len()
    }

    /// How many workloads one service has.
    pub fn member_count(&self, service: &ServiceKey) -> usize {
        self.members.get(service).map_or(0, OrdMap::len)
    }

    /// Puts a service in its place, or takes it out.
    pub(crate) fn set_service(&mut self, key: &ServiceKey, service: Option<Arc<Service>>) {
        let before = match &service {
            Some(service) => self.services.insert(key.clone(), service.clone()),
            None => self.services.remove(key),
        };
        for address in before.iter().flat_map(|before| &before.addresses) {
            self.give_up(address, |claims| claims.services.remove(key));
        }
        for address in service.iter().flat_map(|service| &service.addresses) {
            self.addresses.entry(address.clone()).or_default().services.insert(key.clone());
        }
    }

    /// Puts a workload in its place and into each of its services, or takes it out of all of them.
    pub(crate) fn set_workload(&mut self, id: &InstanceId, workload: Option<Arc<Workload>>) {
        let before = match &workload {
            Some(workload) => self.workloads.insert(id.clone(), workload.clone()),
            None => self.workloads.remove(id),
        };
        self.move_addresses(id, before.as_deref(), workload.as_deref());
        let stays =
            |key: &ServiceKey| workload.as_ref().is_some_and(|workload| workload.services.contains_key(key));
        for left in before.iter().flat_map(|before| before.services.keys()).filter(|key| !stays(key)) {
            self.leave(left, id);
        }
        for (workload, key) in workload.iter().flat_map(|w| w.services.keys().map(move |key| (w, key))) {
            self.members.entry(key.clone()).or_default().insert(id.clone(), workload.clone());
        }
    }

    fn move_addresses(&mut self, id: &InstanceId, before: Option<&Workload>, after: Option<&Workload>) {
        let same = |one: &Workload, other: &Workload| {
            one.network == other.network && one.addresses == other.addresses
        };
        if before.zip(after).is_some_and(|(before, after)| same(before, after)) {
            return;
        }
        for address in before.iter().flat_map(|before| before.network_addresses()) {
            self.give_up(&address, |claims| claims.workloads.remove(id));
        }
        for address in after.iter().flat_map(|after| after.network_addresses()) {
            self.addresses.entry(address).or_default().workloads.insert(id.clone());
        }
    }

    fn give_up(&mut self, address: &NetworkAddress, remove: impl FnOnce(&mut Claims) -> bool) {
        let Some(claims) = self.addresses.get_mut(address) else { return };
        remove(claims);
        if claims.is_empty() {
            self.addresses.remove(address);
        }
    }

    /// Who claims the address.
    pub(crate) fn claims(&self, address: &NetworkAddress) -> Option<&Claims> {
        self.addresses.get(address)
    }

    fn leave(&mut self, key: &ServiceKey, id: &InstanceId) {
        let Some(members) = self.members.get_mut(key) else { return };
        members.remove(id);
        if members.is_empty() {
            self.members.remove(key);
        }
    }
}

/// `{"revision": N, "services": [...], "workloads": [...]}`: what the admin endpoint dumps.
impl Serialize for Snapshot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut snapshot = serializer.serialize_struct("Snapshot", 3)?;
        snapshot.serialize_field("revision", &self.revision)?;
        snapshot.serialize_field("services", &Values(&self.services))?;
        snapshot.serialize_field("workloads", &Values(&self.workloads))?;
        snapshot.end()
    }
}

/// The values of a map as a sequence: each holds its own key.
struct Values<'a, K, V>(&'a OrdMap<K, V>);

impl<K: Ord, V: Serialize> Serialize for Values<'_, K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.values())
    }
}

#[cfg(test)]
mod tests {
    use crate::{Catalog, EntryKey, RegistryEvent, Workload};

    #[test]
    fn a_service_without_workloads_leaves_no_trace_in_the_index() {
        let mut catalog = Catalog::default();
        let workload: Workload = serde_json::from_value(serde_json::json!({
            "id": "pod/a", "services": {"web": []}, "addresses": ["10.0.0.1"], "network": "default", "identity": null,
            "tunnel": "none", "locality": "", "weight": 100, "health": "healthy", "labels": {}, "provenance": [],
        }))
        .unwrap();
        let key = EntryKey::Workload(workload.id.clone());
        let file = "file/local".parse().unwrap();
        catalog.apply(&file, RegistryEvent::Upsert(vec![workload.into()]));
        assert_eq!(catalog.snapshot().members.len(), 1);
        catalog.apply(&file, RegistryEvent::Remove(vec![key]));
        assert!(catalog.snapshot().members.is_empty());
    }
}
