//! What a client wants and holds.
//!
//! A workload is held while one of its services is wanted, and forgotten with the last of them; the server reckons in
//! the same way, so that neither has to tell the other.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use weft_model::{InstanceId, NetworkAddress, Service, ServiceKey, TrustDomain, Workload};
use weft_proto::discovery::{Any, Resource};
use weft_proto::{InvalidResource, ResourceType, TrustBundle};

use super::addresses::Addresses;
use super::response::invalid;
use super::{Members, Update};

/// All that a client wants and holds.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    services: BTreeMap<ServiceKey, Wanted>,
    workloads: BTreeMap<InstanceId, Held<Arc<Workload>>>,
    // Of each held workload all services, also those that nobody wants yet; no empty inner map.
    members: BTreeMap<ServiceKey, Members>,
    bundles: BTreeMap<TrustDomain, Held<TrustBundle>>,
    addresses: Addresses,
}

/// What is known of a wanted service.
#[derive(Debug)]
enum Wanted {
    /// No answer yet.
    Unanswered,
    /// There is none.
    Absent,
    /// There is one.
    Present(Held<Arc<Service>>),
}

/// A resource: as it came, and as it was read.
#[derive(Debug)]
pub(super) struct Held<T> {
    pub(super) version: String,
    pub(super) encoded: Bytes,
    pub(super) value: T,
}

/// What a response changed.
#[derive(Debug, Default)]
pub(super) struct Touched {
    pub(super) services: BTreeSet<ServiceKey>,
    pub(super) bundles: bool,
    pub(super) addresses: BTreeSet<NetworkAddress>,
}

impl Holdings {
    /// Returns whether it is new.
    pub(super) fn want(&mut self, key: ServiceKey) -> bool {
        let new = !self.services.contains_key(&key);
        self.services.entry(key).or_insert(Wanted::Unanswered);
        new
    }

    /// Returns whether it was wanted.
    pub(super) fn forget(&mut self, key: &ServiceKey) -> bool {
        let was_wanted = self.services.remove(key).is_some();
        let members: Vec<InstanceId> =
            self.members.get(key).into_iter().flat_map(Members::keys).cloned().collect();
        for id in members {
            if self.workloads.get(&id).is_some_and(|held| !self.is_wanted(&held.value)) {
                self.drop_workload(&id);
            }
        }
        was_wanted
    }

    /// Returns whether it is new.
    pub(super) fn want_address(&mut self, address: NetworkAddress) -> bool {
        self.addresses.want(address)
    }

    /// Returns whether it was wanted.
    pub(super) fn forget_address(&mut self, address: &NetworkAddress) -> bool {
        self.addresses.forget(address)
    }

    pub(super) fn wanted_addresses(&self) -> impl Iterator<Item = &NetworkAddress> {
        self.addresses.wanted()
    }

    pub(super) fn wanted(&self) -> impl Iterator<Item = &ServiceKey> {
        self.services.keys()
    }

    fn is_wanted(&self, workload: &Workload) -> bool {
        workload.services.keys().any(|key| self.services.contains_key(key))
    }

    /// Reads a resource and holds it. On an error what is held stays.
    pub(super) fn put(
        &mut self,
        kind: ResourceType,
        resource: Resource,
        touched: &mut Touched,
    ) -> Result<(), InvalidResource> {
        let Resource { name, version, resource, .. } = resource;
        let body = resource.ok_or_else(|| invalid(&name, "it has no body".to_owned()))?;
        if body.type_url != kind.url() {
            return Err(invalid(&name, format!("its body is of type {:?}", body.type_url)));
        }
        // A copy of its own: the slice would keep the whole response, up to 1 MiB, in memory.
        let encoded = Bytes::copy_from_slice(&body.value);
        match kind {
            ResourceType::TrustBundle => {
                let value = weft_proto::trust_bundle(&name, encoded.clone())?;
                let held = Held { version, encoded, value };
                let before = self.bundles.get(&held.value.trust_domain).map(|held| &held.value);
                touched.bundles |= before != Some(&held.value);
                self.bundles.insert(held.value.trust_domain.clone(), held);
            }
            ResourceType::Service => {
                let value = Arc::new(weft_proto::service(&name, encoded.clone())?);
                self.put_service(Held { version, encoded, value }, touched);
            }
            ResourceType::Workload => {
                let value = Arc::new(weft_proto::workload(&name, encoded.clone())?);
                self.put_workload(Held { version, encoded, value }, touched);
            }
            ResourceType::Address => touched.addresses.extend(self.addresses.put(&name, version, encoded)?),
        }
        Ok(())
    }

    fn put_service(&mut self, mut held: Held<Arc<Service>>, touched: &mut Touched) {
        // Given up while the answer was under way: nobody's any more.
        let Some(wanted) = self.services.get_mut(&held.value.key) else { return };
        match wanted {
            Wanted::Present(before) if before.value == held.value => held.value = before.value.clone(),
            _ => {
                touched.services.insert(held.value.key.clone());
            }
        }
        *wanted = Wanted::Present(held);
    }

    fn put_workload(&mut self, mut held: Held<Arc<Workload>>, touched: &mut Touched) {
        let id = held.value.id.clone();
        match self.workloads.get_mut(&id) {
            // Sent again: it stays the same `Arc`.
            Some(before) if before.value == held.value => {
                held.value = before.value.clone();
                *before = held;
                return;
            }
            Some(before) => {
                let before = before.value.clone();
                self.touch_present(&before, touched);
            }
            None => {}
        }
        self.drop_workload(&id);
        if !self.is_wanted(&held.value) {
            return;
        }
        self.touch_present(&held.value, touched);
        for key in held.value.services.keys() {
            self.members.entry(key.clone()).or_default().insert(id.clone(), held.value.clone());
        }
        self.workloads.insert(id, held);
    }

    /// A name that is not held is no news.
    pub(super) fn remove(&mut self, kind: ResourceType, name: &str, touched: &mut Touched) {
        match kind {
            ResourceType::Address => touched.addresses.extend(self.addresses.remove(name)),
            ResourceType::TrustBundle => {
                if let Ok(domain) = name.parse::<TrustDomain>() {
                    touched.bundles |= self.bundles.remove(&domain).is_some();
                }
            }
            ResourceType::Service => {
                if let Ok(key) = name.parse::<ServiceKey>()
                    && let Some(wanted) = self.services.get_mut(&key)
                    // Told once: each new stream says it again.
                    && !matches!(wanted, Wanted::Absent)
                {
                    *wanted = Wanted::Absent;
                    touched.services.insert(key);
                }
            }
            ResourceType::Workload => {
                if let Ok(id) = name.parse::<InstanceId>()
                    && let Some(gone) = self.drop_workload(&id)
                {
                    self.touch_present(&gone, touched);
                }
            }
        }
    }

    /// The services that show a workload. One that is absent shows none: its workloads come before it, and until it
    /// does there is nothing new to say of it.
    fn touch_present(&self, workload: &Workload, touched: &mut Touched) {
        let present = |key: &&ServiceKey| matches!(self.services.get(*key), Some(Wanted::Present(_)));
        touched.services.extend(workload.services.keys().filter(present).cloned());
    }

    fn drop_workload(&mut self, id: &InstanceId) -> Option<Arc<Workload>> {
        let gone = self.workloads.remove(id)?.value;
        for key in gone.services.keys() {
            let Some(members) = self.members.get_mut(key) else { continue };
            members.remove(id);
            if members.is_empty() {
                self.members.remove(key);
            }
        }
        Some(gone)
    }

    /// What the proxy is told of a service; nothing of one that is not wanted or not answered yet.
    pub(super) fn update(&self, key: &ServiceKey) -> Option<Update> {
        match self.services.get(key)? {
            Wanted::Unanswered => None,
            Wanted::Absent => Some(Update::ServiceAbsent(key.clone())),
            Wanted::Present(held) => {
                let workloads = self.members.get(key).cloned().unwrap_or_default();
                Some(Update::ServicePresent { service: held.value.clone(), workloads })
            }
        }
    }

    /// What the proxy is told of an address.
    pub(super) fn address_update(&self, address: &NetworkAddress) -> Option<Update> {
        self.addresses.update(address)
    }

    pub(super) fn bundles(&self) -> Vec<TrustBundle> {
        self.bundles.values().map(|held| held.value.clone()).collect()
    }

    /// Versions of what is held of a type, by name.
    pub(super) fn versions(&self, kind: ResourceType) -> HashMap<String, String> {
        self.held(kind).map(|resource| (resource.name, resource.version)).collect()
    }

    /// Everything that is held, encoded.
    pub(super) fn resources(&self) -> Vec<Resource> {
        ResourceType::ALL.into_iter().flat_map(|kind| self.held(kind)).collect()
    }

    fn held(&self, kind: ResourceType) -> Box<dyn Iterator<Item = Resource> + '_> {
        match kind {
            ResourceType::Address => Box::new(self.addresses.held()),
            ResourceType::TrustBundle => {
                Box::new(self.bundles.iter().map(move |(domain, held)| held.to_wire(kind, domain.as_str())))
            }
            ResourceType::Workload => {
                Box::new(self.workloads.iter().map(move |(id, held)| held.to_wire(kind, id.as_str())))
            }
            ResourceType::Service => {
                Box::new(self.services.iter().filter_map(move |(key, wanted)| match wanted {
                    Wanted::Present(held) => Some(held.to_wire(kind, &key.to_string())),
                    Wanted::Unanswered | Wanted::Absent => None,
                }))
            }
        }
    }
}

impl<T> Held<T> {
    pub(super) fn to_wire(&self, kind: ResourceType, name: &str) -> Resource {
        Resource {
            name: name.to_owned(),
            version: self.version.clone(),
            resource: Some(Any { type_url: kind.url().to_owned(), value: self.encoded.clone() }),
            aliases: Vec::new(),
        }
    }
}
