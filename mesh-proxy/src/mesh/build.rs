//! The control plane's resources as the data path wants them. Pure.
//!
//! Only the service that changed is built anew; an endpoint that did not change keeps its `Arc`, and with it its
//! place in pools and balancers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use weft_model::{
    AddressOwner, Health, InstanceId, NetworkAddress, Protocol, Service, ServiceKey, Workload, WorkloadPort,
};
use weft_proto::Address;
use weft_xds_client::Members;

use crate::config::{Endpoint, EndpointPort, KnownAddress, KnownService, Owner, ProxyConfig, ServiceConfig};

/// A configuration with the service put in or replaced.
pub(super) fn with_service(config: &ProxyConfig, service: &Service, workloads: &Members) -> ProxyConfig {
    let before = match config.services.get(&service.key) {
        Some(KnownService::Present(before)) => Some(before),
        Some(KnownService::Absent) | None => None,
    };
    let built = Arc::new(build(service, workloads, before.map(|before| before.as_ref())));
    changed(config, |next| {
        next.services.insert(service.key.clone(), KnownService::Present(built));
    })
}

/// A configuration that knows that there is no such service.
pub(super) fn with_absent(config: &ProxyConfig, key: &ServiceKey) -> ProxyConfig {
    changed(config, |next| {
        next.services.insert(key.clone(), KnownService::Absent);
    })
}

/// A configuration that knows nothing of the service.
pub(super) fn without(config: &ProxyConfig, key: &ServiceKey) -> ProxyConfig {
    changed(config, |next| {
        next.services.remove(key);
    })
}

/// A configuration that knows who has the address.
pub(super) fn with_address(config: &ProxyConfig, address: &Address) -> ProxyConfig {
    let owner = match &address.owner {
        AddressOwner::Service(key) => Owner::Service(key.clone()),
        AddressOwner::Workloads(all) => Owner::Itself(Arc::new(itself(all, address.address.ip))),
    };
    changed(config, |next| {
        next.addresses.insert(address.address.clone(), KnownAddress::Owned(owner));
    })
}

/// A configuration that knows that nobody has the address.
pub(super) fn with_free(config: &ProxyConfig, address: &NetworkAddress) -> ProxyConfig {
    changed(config, |next| {
        next.addresses.insert(address.clone(), KnownAddress::Free);
    })
}

/// A configuration that knows nothing of the address.
pub(super) fn without_address(config: &ProxyConfig, address: &NetworkAddress) -> ProxyConfig {
    changed(config, |next| {
        next.addresses.remove(address);
    })
}

/// The workloads that have one address, each with all its ports. They count as healthy with the default weight: who calls
/// an instance by its address wants this one, whatever is said of it.
fn itself(workloads: &[Arc<Workload>], ip: IpAddr) -> ServiceConfig {
    let endpoint = |workload: &Arc<Workload>| {
        let mut ports: Vec<EndpointPort> = workload.services.values().flatten().map(port_of).collect();
        ports.sort_by_key(|port| (port.number, port.protocol == Protocol::Detect));
        ports.dedup_by_key(|port| port.number);
        let described = described(workload, ports);
        Arc::new(Endpoint {
            addresses: vec![ip],
            weight: Workload::DEFAULT_WEIGHT,
            health: Health::Unknown,
            ..described
        })
    };
    let named = workloads.iter().find_map(|workload| workload.services.keys().next().cloned());
    let key = named.or_else(|| workloads.iter().find_map(|workload| account(workload)));
    ServiceConfig {
        key: key.unwrap_or_else(ServiceKey::unnamed),
        ports: Vec::new(),
        endpoints: workloads.iter().map(endpoint).collect(),
        prefer: None,
    }
}

/// What an instance of no service is called in telemetry: its service account.
fn account(workload: &Workload) -> Option<ServiceKey> {
    let (namespace, account) = workload.identity.as_ref()?.service_account()?;
    Some(ServiceKey::new(namespace.parse().ok()?, account.parse().ok()?))
}

fn changed(config: &ProxyConfig, change: impl FnOnce(&mut ProxyConfig)) -> ProxyConfig {
    let mut next = config.clone();
    next.revision += 1;
    change(&mut next);
    next
}

fn build(service: &Service, workloads: &Members, before: Option<&ServiceConfig>) -> ServiceConfig {
    let before: HashMap<&InstanceId, &Arc<Endpoint>> = before
        .into_iter()
        .flat_map(|before| &before.endpoints)
        .map(|endpoint| (&endpoint.id, endpoint))
        .collect();
    // In the order of their ids: the same on every proxy and after every restart.
    let endpoints = workloads
        .values()
        .filter_map(|workload| endpoint(&service.key, workload))
        .map(|endpoint| match before.get(&endpoint.id) {
            Some(same) if ***same == endpoint => Arc::clone(same),
            _ => Arc::new(endpoint),
        })
        .collect();
    ServiceConfig {
        key: service.key.clone(),
        ports: service.ports.clone(),
        endpoints,
        prefer: service.prefer,
    }
}

/// The workload as a member of `service`; `None` where it is no member or has no address.
fn endpoint(service: &ServiceKey, workload: &Workload) -> Option<Endpoint> {
    let ports = workload.services.get(service)?;
    if workload.addresses.is_empty() {
        return None;
    }
    Some(described(workload, ports.iter().map(port_of).collect()))
}

fn port_of(port: &WorkloadPort) -> EndpointPort {
    EndpointPort { name: port.name.clone(), number: port.number, protocol: port.protocol }
}

fn described(workload: &Workload, ports: Vec<EndpointPort>) -> Endpoint {
    let label =
        |key: &str| workload.labels.get(key).map_or_else(|| Arc::from(""), |value| Arc::from(value.as_str()));
    Endpoint {
        id: workload.id.clone(),
        addresses: workload.addresses.clone(),
        ports,
        identity: workload.identity.clone(),
        tunnel: workload.tunnel,
        captured: workload.captured,
        weight: workload.weight,
        health: workload.health,
        locality: workload.locality.clone(),
        node: workload.node.clone(),
        app: label("app"),
        version: label("version"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use weft_model::{Locality, Network, Tunnel};

    use super::*;

    fn key(name: &str) -> ServiceKey {
        name.parse().unwrap()
    }

    fn service(name: &str) -> Service {
        Service {
            key: key(name),
            ports: Vec::new(),
            labels: BTreeMap::new(),
            addresses: Default::default(),
            prefer: None,
        }
    }

    fn workload(name: &str, service: &str, health: Health) -> Arc<Workload> {
        let port =
            WorkloadPort { name: Some("http".parse().unwrap()), number: 8080, protocol: Protocol::Http1 };
        Arc::new(Workload {
            id: format!("file/local/{service}/{name}").parse().unwrap(),
            services: BTreeMap::from([(key(service), vec![port])]),
            addresses: vec!["10.0.0.1".parse().unwrap()],
            network: Network::default_network(),
            identity: Some("spiffe://weft.test/ns/default/sa/api".parse().unwrap()),
            tunnel: Tunnel::Port(15008),
            captured: false,
            locality: Locality::default(),
            node: None,
            weight: 100,
            health,
            labels: BTreeMap::from([("version".to_owned(), "v1".to_owned())]),
            provenance: BTreeSet::new(),
        })
    }

    fn members(workloads: &[Arc<Workload>]) -> Members {
        workloads.iter().map(|workload| (workload.id.clone(), workload.clone())).collect()
    }

    fn present(config: &ProxyConfig, name: &str) -> Arc<ServiceConfig> {
        match config.services.get(&key(name)) {
            Some(KnownService::Present(service)) => service.clone(),
            other => panic!("{name} is {other:?}"),
        }
    }

    #[test]
    fn an_endpoint_that_did_not_change_keeps_its_arc() {
        let (a, b) = (workload("a", "api", Health::Healthy), workload("b", "api", Health::Healthy));
        let first = with_service(&ProxyConfig::default(), &service("api"), &members(&[b, a.clone()]));
        let b = workload("b", "api", Health::Draining);
        let second = with_service(&first, &service("api"), &members(&[a, b]));
        let (before, after) = (present(&first, "api"), present(&second, "api"));
        assert!(Arc::ptr_eq(&before.endpoints[0], &after.endpoints[0]));
        assert!(!Arc::ptr_eq(&before.endpoints[1], &after.endpoints[1]));
        assert_eq!(after.endpoints[1].health, Health::Draining);
        assert_eq!(second.revision, first.revision + 1);
    }

    #[test]
    fn a_change_of_one_service_leaves_the_others_as_they_are() {
        let one = with_service(&ProxyConfig::default(), &service("api"), &members(&[]));
        let two = with_service(&one, &service("store"), &members(&[workload("s", "store", Health::Unknown)]));
        assert!(Arc::ptr_eq(&present(&one, "api"), &present(&two, "api")));
        let gone = with_absent(&two, &key("api"));
        assert!(matches!(gone.services.get(&key("api")), Some(KnownService::Absent)));
        let forgotten = without(&gone, &key("api"));
        assert!(
            !forgotten.services.contains_key(&key("api")) && forgotten.services.contains_key(&key("store"))
        );
    }

    #[test]
    fn a_workload_of_another_service_is_no_endpoint() {
        let config = with_service(
            &ProxyConfig::default(),
            &service("api"),
            &members(&[workload("s", "store", Health::Healthy)]),
        );
        assert!(present(&config, "api").endpoints.is_empty());
    }

    #[test]
    fn what_the_data_path_needs_is_carried_over() {
        let config = with_service(
            &ProxyConfig::default(),
            &service("api"),
            &members(&[workload("a", "api", Health::Healthy)]),
        );
        let endpoint = present(&config, "api").endpoints[0].clone();
        assert_eq!(endpoint.tunnel_address().unwrap().to_string(), "10.0.0.1:15008");
        assert_eq!((endpoint.ports[0].number, &*endpoint.version, &*endpoint.app), (8080, "v1", ""));
    }

    fn owned(by: &[Arc<Workload>]) -> Address {
        let address = "default/10.0.0.1".parse().unwrap();
        Address { address, owner: AddressOwner::Workloads(by.to_vec()) }
    }

    fn itself_of(config: &ProxyConfig) -> Arc<ServiceConfig> {
        match config.addresses.values().next() {
            Some(KnownAddress::Owned(Owner::Itself(config))) => config.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_instance_that_is_called_by_its_address_is_used_whatever_is_said_of_its_health() {
        let mut draining = Workload::clone(&workload("a", "api", Health::Draining));
        (draining.weight, draining.addresses) =
            (0, vec!["fd00::1".parse().unwrap(), "10.0.0.1".parse().unwrap()]);
        let config = itself_of(&with_address(&ProxyConfig::default(), &owned(&[Arc::new(draining)])));
        let endpoint = &config.endpoints[0];
        assert!(endpoint.health.takes_new_work() && endpoint.weight > 0);
        assert_eq!(endpoint.addresses, ["10.0.0.1".parse::<IpAddr>().unwrap()], "and by this address alone");
        assert_eq!((config.key.to_string().as_str(), endpoint.ports[0].number), ("default/api", 8080));
    }

    #[test]
    fn an_instance_of_no_service_is_called_after_its_account() {
        let mut alone = Workload::clone(&workload("a", "api", Health::Unknown));
        alone.services.clear();
        let config = itself_of(&with_address(&ProxyConfig::default(), &owned(&[Arc::new(alone.clone())])));
        assert_eq!(config.key.to_string(), "default/api");
        alone.identity = None;
        let config = itself_of(&with_address(&ProxyConfig::default(), &owned(&[Arc::new(alone)])));
        assert_eq!(config.key, ServiceKey::unnamed());
    }
}
