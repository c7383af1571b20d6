//! Everything that can be subscribed to, encoded, at one moment.
//!
//! Persistent maps: the next set shares all that did not change with this one, and making it costs what changed.
//! A change that is not visible on the wire (provenance, a private label) keeps the resource and is no change.
//! Addresses are encoded when somebody asks: few are asked for of the many that there are.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use weft_model::{Changes, InstanceId, NetworkAddress, ServiceKey, Snapshot};
use weft_proto::mesh::v1 as wire;
use weft_proto::{Address, ResourceType, TrustBundle};

use crate::published::{Changed, ChangedWorkload};
use crate::resource::Resource;

/// The encoded resources of one snapshot.
#[derive(Debug, Clone, Default)]
pub struct ResourceSet {
    services: OrdMap<Arc<str>, Arc<Resource>>,
    workloads: OrdMap<Arc<str>, Arc<MemberResource>>,
    // Names of workloads by service; no empty set.
    members: OrdMap<Arc<str>, OrdSet<Arc<str>>>,
    bundles: OrdMap<Arc<str>, Arc<Resource>>,
    // What addresses are looked up in.
    snapshot: Snapshot,
}

/// A workload's resource, and the services that it is a member of.
#[derive(Debug, Clone)]
struct MemberResource {
    resource: Arc<Resource>,
    services: Box<[Arc<str>]>,
}

impl ResourceSet {
    /// The set of `snapshot` and `bundles`, given that it differs from this one's snapshot by `changes`; and what
    /// differs on the wire. `bundles` are all there are: they are few.
    pub fn advance(
        &self,
        snapshot: &Snapshot,
        changes: &Changes,
        bundles: &[TrustBundle],
    ) -> (ResourceSet, Changed) {
        let mut next = self.clone();
        let mut changed = Changed::default();
        for key in &changes.services {
            changed.services.extend(next.set_service(key, snapshot));
            let virtual_addresses =
                |of: &Snapshot| of.service(key).map(|service| service.addresses.clone()).unwrap_or_default();
            let (before, after) = (virtual_addresses(&self.snapshot), virtual_addresses(snapshot));
            changed.addresses.extend(before.symmetric_difference(&after).cloned());
        }
        for id in &changes.workloads {
            let Some(workload) = next.set_workload(id, snapshot) else { continue };
            changed.workloads.push(workload);
            let either = [&self.snapshot, snapshot].into_iter().filter_map(|of| of.workload(id));
            changed.addresses.extend(either.flat_map(|workload| workload.network_addresses()));
        }
        changed.bundles = next.set_bundles(bundles);
        next.snapshot = snapshot.clone();
        (next, changed)
    }

    /// A service's resource.
    pub fn service(&self, name: &str) -> Option<&Arc<Resource>> {
        self.services.get(name)
    }

    /// A workload's resource.
    pub fn workload(&self, name: &str) -> Option<&Arc<Resource>> {
        self.workloads.get(name).map(|workload| &workload.resource)
    }

    /// A trust bundle's resource.
    pub fn bundle(&self, name: &str) -> Option<&Arc<Resource>> {
        self.bundles.get(name)
    }

    /// An address's resource: whose it is.
    pub fn address(&self, name: &str) -> Option<Arc<Resource>> {
        let address: NetworkAddress = name.parse().ok()?;
        let owner = self.snapshot.owner(&address)?;
        let message = wire::Address::from(&Address { address, owner });
        Some(Arc::new(Resource::new(name.into(), &message)))
    }

    /// The names of the services that a workload is a member of.
    pub fn services_of(&self, workload: &str) -> &[Arc<str>] {
        self.workloads.get(workload).map_or(&[], |workload| &workload.services)
    }

    /// The names of a service's workloads.
    pub fn members(&self, service: &str) -> impl Iterator<Item = &Arc<str>> {
        self.members.get(service).into_iter().flatten()
    }

    /// The names of all trust bundles.
    pub fn bundle_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.bundles.keys()
    }

    /// How many resources of a type there are.
    pub fn count(&self, kind: ResourceType) -> usize {
        match kind {
            ResourceType::TrustBundle => self.bundles.len(),
            ResourceType::Workload => self.workloads.len(),
            ResourceType::Service => self.services.len(),
            ResourceType::Address => self.snapshot.address_count(),
        }
    }

    /// Returns the name where something changed.
    fn set_service(&mut self, key: &ServiceKey, snapshot: &Snapshot) -> Option<Arc<str>> {
        let name = key.to_string();
        let Some(service) = snapshot.service(key) else {
            return self.services.remove(name.as_str()).map(|gone| gone.name.clone());
        };
        let resource = Resource::new(name.into(), &wire::Service::from(service.as_ref()));
        put(&mut self.services, resource)
    }

    fn set_workload(&mut self, id: &InstanceId, snapshot: &Snapshot) -> Option<ChangedWorkload> {
        let before = self.workloads.get(id.as_str()).cloned();
        let message = snapshot.workload(id).map(|workload| wire::Workload::from(workload.as_ref()));
        let name = before.as_ref().map_or_else(|| id.as_str().into(), |before| before.resource.name.clone());
        let after = message.map(|message| self.member(name.clone(), &message));
        if before.as_ref().map(|b| b.resource.version) == after.as_ref().map(|a| a.resource.version) {
            return None;
        }
        let left = before.map(|before| before.services.clone()).unwrap_or_default();
        for service in &left {
            self.leave(service, &name);
        }
        let mut services = left.into_vec();
        match after {
            None => {
                self.workloads.remove(name.as_ref());
            }
            Some(after) => {
                for service in &after.services {
                    self.join(service, &name);
                    if !services.contains(service) {
                        services.push(service.clone());
                    }
                }
                self.workloads.insert(name.clone(), Arc::new(after));
            }
        }
        Some(ChangedWorkload { name, services: services.into() })
    }

    fn member(&self, name: Arc<str>, message: &wire::Workload) -> MemberResource {
        // One allocation for a service's name, however many workloads it has.
        let shared = |name: &str| match self.members.get_key_value(name) {
            Some((known, _)) => known.clone(),
            None => Arc::from(name),
        };
        let services = message.services.iter().map(|membership| shared(&membership.service)).collect();
        MemberResource { resource: Arc::new(Resource::new(name, message)), services }
    }

    fn join(&mut self, service: &Arc<str>, workload: &Arc<str>) {
        match self.members.get_mut(service.as_ref()) {
            Some(members) => {
                members.insert(workload.clone());
            }
            None => {
                self.members.insert(service.clone(), OrdSet::unit(workload.clone()));
            }
        }
    }

    fn leave(&mut self, service: &Arc<str>, workload: &Arc<str>) {
        let Some(members) = self.members.get_mut(service.as_ref()) else { return };
        members.remove(workload.as_ref());
        if members.is_empty() {
            self.members.remove(service.as_ref());
        }
    }

    fn set_bundles(&mut self, bundles: &[TrustBundle]) -> Vec<Arc<str>> {
        let kept = |name: &str| bundles.iter().any(|bundle| bundle.trust_domain.as_str() == name);
        let gone: Vec<Arc<str>> = self.bundles.keys().filter(|name| !kept(name)).cloned().collect();
        for name in &gone {
            self.bundles.remove(name.as_ref());
        }
        let mut changed = gone;
        for bundle in bundles {
            let resource =
                Resource::new(bundle.trust_domain.as_str().into(), &wire::TrustBundle::from(bundle));
            changed.extend(put(&mut self.bundles, resource));
        }
        changed
    }
}

/// Puts a resource in, unless the one that is there means the same. Returns its name where it was put in.
fn put(map: &mut OrdMap<Arc<str>, Arc<Resource>>, resource: Resource) -> Option<Arc<str>> {
    let name = resource.name.clone();
    if map.get(name.as_ref()).is_some_and(|known| known.version == resource.version) {
        return None;
    }
    map.insert(name.clone(), Arc::new(resource));
    Some(name)
}

#[cfg(test)]
mod tests;
