//! The dump: what this proxy decides by, as JSON for people. No key and no token is in it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::Admin;
use super::readiness::{self, Readiness};
use crate::config::{Endpoint, KnownAddress, KnownService, Owner, ProxyConfig, ServiceConfig};
use crate::shared::Phase;

/// Everything, services in the order of their names.
pub(super) fn dump(admin: &Admin, now: SystemTime) -> Value {
    let config = admin.shared.config.load();
    let mut services: Vec<_> = config.services.iter().collect();
    services.sort_by_key(|(key, _)| *key);
    let services: Vec<Value> = services
        .into_iter()
        .map(|(key, known)| match known {
            KnownService::Absent => json!({"service": key, "exists": false}),
            KnownService::Present(service) => describe(service),
        })
        .collect();
    let Readiness { missing, undecided } = readiness::look(admin, now);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "instance": admin.instance,
        "draining": admin.shared.drain.phase() != Phase::Serving,
        "not_ready": missing,
        "undecided": undecided,
        "listeners": admin.shared.bound,
        "identity": identity(admin),
        "control": *admin.mesh.borrow(),
        "on_demand": admin.shared.demand.on_demand(),
        "revision": config.revision,
        "place": {"locality": config.place.locality, "node": config.place.node},
        "services": services,
        "addresses": addresses(&config),
        "names": names(admin),
    })
}

fn identity(admin: &Admin) -> Value {
    let status = admin.identity.borrow().clone();
    let Some(credentials) = admin.shared.svids.current() else { return json!({"status": status}) };
    let domains: Vec<Value> = credentials
        .bundles
        .iter()
        .map(|bundle| json!({"trust_domain": bundle.trust_domain, "roots": bundle.roots.len()}))
        .collect();
    json!({
        "id": credentials.svid.id(),
        "not_before": humantime::format_rfc3339_seconds(credentials.svid.not_before()).to_string(),
        "not_after": humantime::format_rfc3339_seconds(credentials.svid.not_after()).to_string(),
        "generation": credentials.generation,
        "trust": domains,
        "status": status,
    })
}

/// Whose the addresses of captured connections are, as text for people.
fn addresses(config: &ProxyConfig) -> BTreeMap<String, Value> {
    let owner = |known: &KnownAddress| match known {
        KnownAddress::Free => json!(null),
        KnownAddress::Owned(Owner::Service(key)) => json!({"service": key}),
        KnownAddress::Owned(Owner::Itself(itself)) => {
            json!({"workloads": itself.endpoints.iter().map(|endpoint| &endpoint.id).collect::<Vec<_>>()})
        }
    };
    config.addresses.iter().map(|(address, known)| (address.to_string(), owner(known))).collect()
}

/// Which address stands for which service; `null` where no names are answered.
fn names(admin: &Admin) -> Option<BTreeMap<String, Ipv4Addr>> {
    let given = admin.shared.names.as_ref()?.given();
    Some(given.iter().map(|(service, address)| (service.to_string(), address)).collect())
}

fn describe(service: &ServiceConfig) -> Value {
    let endpoints: Vec<Value> =
        service.endpoints.iter().map(|endpoint| describe_endpoint(endpoint)).collect();
    json!({"service": service.key, "exists": true, "ports": service.ports, "prefer": service.prefer, "endpoints": endpoints})
}

fn describe_endpoint(endpoint: &Endpoint) -> Value {
    let ports: Vec<Value> = endpoint
        .ports
        .iter()
        .map(|port| json!({"name": port.name, "number": port.number, "protocol": port.protocol}))
        .collect();
    json!({
        "id": endpoint.id,
        "addresses": endpoint.addresses,
        "ports": ports,
        "identity": endpoint.identity,
        "tunnel": endpoint.tunnel_address(),
        "weight": endpoint.weight,
        "health": endpoint.health,
        "locality": endpoint.locality,
        "node": endpoint.node,
        "app": &*endpoint.app,
        "version": &*endpoint.version,
    })
}
