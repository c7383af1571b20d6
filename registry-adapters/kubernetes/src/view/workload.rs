//! One instance, made of all that says something about it: its slices, its pod, its node, its services.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use weft_model::{
    Health, InstanceId, Locality, NodeName, Provenance, ServiceKey, Tunnel, Workload, WorkloadPort,
};

use super::View;
use crate::convert::{Declared, EndpointFacts, PodFacts, SliceFacts};
use crate::object::ObjectKey;
use crate::subject::object_name;

/// One place where an instance is listed.
struct Listing<'a> {
    slice_key: &'a ObjectKey,
    slice: &'a SliceFacts,
    endpoint: &'a EndpointFacts,
    service: &'a Declared,
}

impl View {
    /// The instance; `None` where there is none, or not enough is known of it.
    pub(super) fn workload(&self, id: &InstanceId, now_unix_ms: u64) -> Option<Workload> {
        let pod = self.pods.get(id);
        if pod.is_some_and(|pod| !pod.is_usable()) {
            return None;
        }
        let listings = self.listings(id);
        match (pod, listings.first()) {
            // In no service, but in the mesh: it has callers by address, and an identity.
            (Some(pod), None) if pod.tunnel() == Tunnel::None || !self.is_in_mesh(pod.key.namespace()) => {
                None?
            }
            // Gone, or not there yet.
            (None, Some(listing)) if listing.endpoint.is_pod && self.sources.pods_are_read() => None?,
            (None, None) => None?,
            _ => {}
        }
        let written = pod.and_then(|pod| pod.written.metadata());
        Some(Workload {
            id: id.clone(),
            services: services(pod, &listings),
            addresses: addresses(pod, &listings),
            network: written.and_then(|written| written.network()).unwrap_or(&self.context.network).clone(),
            identity: pod.and_then(|pod| pod.identity.clone()),
            tunnel: pod.map(PodFacts::tunnel).unwrap_or_default(),
            captured: written.is_some_and(|written| written.proxy().redirected),
            locality: match written.and_then(|written| written.locality()) {
                Some(locality) => locality.clone(),
                None => self.locality(pod, &listings),
            },
            node: self.node_name(pod, &listings),
            weight: written.and_then(|written| written.weight()).unwrap_or(Workload::DEFAULT_WEIGHT),
            health: health(pod, &listings),
            labels: pod.map(labels).unwrap_or_default(),
            provenance: BTreeSet::from([self.provenance(id, pod, &listings, now_unix_ms)]),
        })
    }

    /// Where the instance is listed, as far as it counts: for services that are there, in namespaces of the mesh.
    fn listings(&self, id: &InstanceId) -> Vec<Listing<'_>> {
        let listed = self.slices.of_instance(id).filter_map(|(slice_key, slice, endpoint)| {
            let service = self.services.get(&slice.service).filter(|service| service.has_members)?;
            self.is_in_mesh(slice_key.namespace()).then_some(Listing { slice_key, slice, endpoint, service })
        });
        listed.collect()
    }

    fn locality(&self, pod: Option<&PodFacts>, listings: &[Listing<'_>]) -> Locality {
        node(pod, listings).and_then(|node| self.nodes.get(node)).cloned().unwrap_or_default()
    }

    fn node_name(&self, pod: Option<&PodFacts>, listings: &[Listing<'_>]) -> Option<NodeName> {
        // A name that no server would give is no node: nothing is near there.
        NodeName::within(&self.context.registry, node(pod, listings)?).ok()
    }

    fn provenance(
        &self,
        id: &InstanceId,
        pod: Option<&PodFacts>,
        listings: &[Listing<'_>],
        now_unix_ms: u64,
    ) -> Provenance {
        // Of several slices the first by name: the same one whatever order they came in.
        let slice = || listings.iter().map(|listing| listing.slice_key).min();
        let object = match pod {
            Some(pod) => object_name("pod", &pod.key),
            None => slice().map_or_else(|| id.to_string(), |key| object_name("endpointslice", key)),
        };
        let before = self.told.workload(id).and_then(|workload| workload.provenance.first());
        let since_unix_ms = before.map_or(now_unix_ms, |from| from.since_unix_ms);
        Provenance { registry: self.context.registry.clone(), object, since_unix_ms }
    }
}

/// The name of its node; a pod's own word counts before the slices'.
fn node<'a>(pod: Option<&'a PodFacts>, listings: &[Listing<'a>]) -> Option<&'a str> {
    match pod {
        Some(pod) => pod.node.as_deref(),
        None => listings.iter().find_map(|listing| listing.endpoint.node.as_deref()),
    }
}

/// Its services, with its ports in each.
fn services(pod: Option<&PodFacts>, listings: &[Listing<'_>]) -> BTreeMap<ServiceKey, Vec<WorkloadPort>> {
    let mut services: BTreeMap<ServiceKey, Vec<WorkloadPort>> = BTreeMap::new();
    for Listing { slice, service, .. } in listings {
        let ports = services.entry(service.key.clone()).or_default();
        for port in &slice.ports {
            let name = port.name.as_ref();
            let written = pod.and_then(|pod| pod.written.protocol_for(name));
            let protocol =
                written.or_else(|| service.protocol_for(name)).or(port.protocol).unwrap_or_default();
            let port = WorkloadPort { name: port.name.clone(), number: port.number, protocol };
            // In two slices while it moves, or once for each address family.
            if !ports.contains(&port) {
                ports.push(port);
            }
        }
    }
    services.values_mut().for_each(|ports| ports.sort());
    services
}

/// A pod has its own addresses: those that its services use, in the pod's order, or all where none of them is listed, as
/// while its sandbox was made anew and the slices lag behind. Else what the slices say.
fn addresses(pod: Option<&PodFacts>, listings: &[Listing<'_>]) -> Vec<IpAddr> {
    let listed: BTreeSet<IpAddr> = listings.iter().map(|listing| listing.endpoint.address).collect();
    let Some(pod) = pod else { return listed.into_iter().collect() };
    let used: Vec<IpAddr> = pod.ips.iter().filter(|ip| listed.contains(ip)).copied().collect();
    if used.is_empty() { pod.ips.clone() } else { used }
}

/// The worst that any of its slices says; the pod's own word that it ends is often the first.
fn health(pod: Option<&PodFacts>, listings: &[Listing<'_>]) -> Health {
    let own = match pod {
        Some(pod) if pod.deleting => Health::Draining,
        Some(pod) if listings.is_empty() && !pod.ready => Health::Unhealthy,
        _ => Health::Healthy,
    };
    listings.iter().map(|listing| listing.endpoint.health).fold(own, Health::max)
}

fn labels(pod: &PodFacts) -> BTreeMap<String, String> {
    let own = [("app", &pod.app), ("version", &pod.version)];
    let own = own.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.as_deref()?.to_owned())));
    let written = pod.written.metadata().into_iter().flat_map(|written| written.labels());
    own.chain(written.map(|(key, value)| (key.to_owned(), value.to_owned()))).collect()
}
