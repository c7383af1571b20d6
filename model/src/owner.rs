//! Whose an address is: the question of a proxy that has a captured connection and only its destination.
//!
//! A service's virtual address wins over a workload's own, since callers of it mean the service. Several workloads may
//! share an address (a host's network): of those only the ones with a proxy are told apart, by their ports, which is the
//! asker's part; without a proxy each of them is reached by the address itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::name::{InstanceId, ServiceKey};
use crate::service::NetworkAddress;
use crate::snapshot::Snapshot;
use crate::workload::{Tunnel, Workload};

/// Who has an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressOwner {
    /// It is a virtual address of this service.
    Service(ServiceKey),
    /// It is these workloads' own, sorted by id, never empty. More than one: all have a proxy.
    Workloads(Vec<Arc<Workload>>),
}

/// Who claims an address. No empty set in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Claims {
    pub(crate) services: BTreeSet<ServiceKey>,
    pub(crate) workloads: BTreeSet<InstanceId>,
}

impl Claims {
    pub(crate) fn is_empty(&self) -> bool {
        self.services.is_empty() && self.workloads.is_empty()
    }
}

impl Snapshot {
    /// Whose the address is. `None`: nobody's that is known.
    pub fn owner(&self, address: &NetworkAddress) -> Option<AddressOwner> {
        let claims = self.claims(address)?;
        // The first by name where two services claim it, so that every replica says the same.
        if let Some(service) = claims.services.first() {
            return Some(AddressOwner::Service(service.clone()));
        }
        let all: Vec<_> = claims.workloads.iter().filter_map(|id| self.workload(id)).cloned().collect();
        let with_proxy = |workload: &&Arc<Workload>| workload.tunnel != Tunnel::None;
        let mut owners: Vec<_> = all.iter().filter(with_proxy).cloned().collect();
        if owners.is_empty() {
            owners.extend(all.into_iter().next());
        }
        (!owners.is_empty()).then_some(AddressOwner::Workloads(owners))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Catalog, Entry, EntryKey, RegistryEvent, RegistryId, Service};

    fn at(ip: &str) -> NetworkAddress {
        format!("default/{ip}").parse().unwrap()
    }

    fn file() -> RegistryId {
        "file/local".parse().unwrap()
    }

    fn workload(id: &str, ip: &str, tunnel: Tunnel) -> Entry {
        let mut workload: Workload = serde_json::from_value(serde_json::json!({
            "id": id, "services": {"web": []}, "addresses": [ip], "network": "default", "identity": null,
            "tunnel": "none", "locality": "", "weight": 100, "health": "healthy", "labels": {}, "provenance": [],
        }))
        .unwrap();
        workload.tunnel = tunnel;
        workload.into()
    }

    fn service(name: &str, ip: &str) -> Entry {
        let addresses = BTreeSet::from([at(ip)]);
        Entry::Service(Service { addresses, ..Service::undeclared(name.parse().unwrap()) })
    }

    fn ids(catalog: &Catalog, ip: &str) -> Vec<String> {
        match catalog.snapshot().owner(&at(ip)) {
            Some(AddressOwner::Workloads(all)) => all.iter().map(|one| one.id.to_string()).collect(),
            Some(AddressOwner::Service(key)) => vec![format!("service {key}")],
            None => Vec::new(),
        }
    }

    #[test]
    fn a_virtual_address_is_the_services_also_where_a_workload_claims_it() {
        let mut catalog = Catalog::default();
        let said = vec![workload("vm/a", "10.96.0.1", Tunnel::Port(15008)), service("web", "10.96.0.1")];
        catalog.apply(&file(), RegistryEvent::Upsert(said));
        assert_eq!(ids(&catalog, "10.96.0.1"), ["service default/web"]);
        catalog.apply(&file(), RegistryEvent::Remove(vec![EntryKey::Service("web".parse().unwrap())]));
        assert_eq!(ids(&catalog, "10.96.0.1"), ["vm/a"], "the claim that is left");
    }

    #[test]
    fn of_workloads_that_share_an_address_those_with_a_proxy_own_it() {
        let mut catalog = Catalog::default();
        let said = ["vm/a", "vm/b"].map(|id| workload(id, "10.0.0.1", Tunnel::None));
        catalog.apply(&file(), RegistryEvent::Upsert(said.into()));
        assert_eq!(ids(&catalog, "10.0.0.1"), ["vm/a"], "without a proxy one is as good as the other");
        let said = ["vm/c", "vm/d"].map(|id| workload(id, "10.0.0.1", Tunnel::Port(15008)));
        catalog.apply(&file(), RegistryEvent::Upsert(said.into()));
        assert_eq!(ids(&catalog, "10.0.0.1"), ["vm/c", "vm/d"]);
        assert_eq!(ids(&catalog, "10.0.0.2"), [""; 0]);
    }

    #[test]
    fn an_address_that_moves_to_another_workload_is_only_the_new_ones() {
        let mut catalog = Catalog::default();
        catalog.apply(&file(), RegistryEvent::Upsert(vec![workload("vm/a", "10.0.0.1", Tunnel::None)]));
        let moved =
            vec![workload("vm/a", "10.0.0.9", Tunnel::None), workload("vm/b", "10.0.0.1", Tunnel::None)];
        catalog.apply(&file(), RegistryEvent::Upsert(moved));
        assert_eq!(
            (ids(&catalog, "10.0.0.1"), ids(&catalog, "10.0.0.9")),
            (vec!["vm/b".into()], vec!["vm/a".into()])
        );
        let gone = ["vm/a", "vm/b"].map(|id| EntryKey::Workload(id.parse().unwrap()));
        catalog.apply(&file(), RegistryEvent::Remove(gone.into()));
        assert!(catalog.snapshot().claims(&at("10.0.0.1")).is_none(), "an index leaves no trace");
    }

    #[test]
    fn a_network_address_has_one_spelling() {
        assert_eq!(at("10.0.0.1").to_string(), "default/10.0.0.1");
        assert_eq!(at("fd00::1").to_string(), "default/fd00::1");
        for wrong in
            ["10.0.0.1", "default/", "default/10.0.0", "default/fd00:0::1", "/10.0.0.1", "a b/10.0.0.1"]
        {
            assert!(wrong.parse::<NetworkAddress>().is_err(), "{wrong}");
        }
    }
}
