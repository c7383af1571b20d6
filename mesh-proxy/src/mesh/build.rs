//! The control plane's resources as the data path wants them. Pure.
//!
//! Only the service that changed is built anew; an endpoint that did not change keeps its `Arc`, and with it its
//! place in pools and balancers.

use std::collections::HashMap;
use std::sync::Arc;

use weft_model::{InstanceId, Service, ServiceKey, Workload};
use weft_xds_client::Members;

use crate::config::{Endpoint, EndpointPort, KnownService, ProxyConfig, ServiceConfig};

/// A configuration with the service put in or replaced.
pub(super) fn with_service(config: &ProxyConfig, service: &Service, workloads: &Members) -> ProxyConfig {
    let before = match config.services.get(&service.key) {
        Some(KnownService::Present(before)) => Some(before),
        Some(KnownService::Absent) | None => None,
    };
    let built = Arc::new(build(service, workloads, before.map(|before| before.as_ref())));
    changed(config, |services| {
        services.insert(service.key.clone(), KnownService::Present(built));
    })
}

/// A configuration that knows that there is no such service.
pub(super) fn with_absent(config: &ProxyConfig, key: &ServiceKey) -> ProxyConfig {
    changed(config, |services| {
        services.insert(key.clone(), KnownService::Absent);
    })
}

/// A configuration that knows nothing of the service.
pub(super) fn without(config: &ProxyConfig, key: &ServiceKey) -> ProxyConfig {
    changed(config, |services| {
        services.remove(key);
    })
}

fn changed(
    config: &ProxyConfig,
    change: impl FnOnce(&mut imbl::HashMap<ServiceKey, KnownService>),
) -> ProxyConfig {
    let mut next = config.clone();
    next.revision += 1;
    change(&mut next.services);
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
    ServiceConfig { key: service.key.clone(), ports: service.ports.clone(), endpoints }
}

/// The workload as a member of `service`; `None` where it is no member or has no address.
fn endpoint(service: &ServiceKey, workload: &Workload) -> Option<Endpoint> {
    let ports = workload.services.get(service)?;
    if workload.addresses.is_empty() {
        return None;
    }
    let port = |port: &weft_model::WorkloadPort| EndpointPort {
        name: port.name.clone(),
        number: port.number,
        protocol: port.protocol,
    };
    let label =
        |key: &str| workload.labels.get(key).map_or_else(|| Arc::from(""), |value| Arc::from(value.as_str()));
    Some(Endpoint {
        id: workload.id.clone(),
        addresses: workload.addresses.clone(),
        ports: ports.iter().map(port).collect(),
        identity: workload.identity.clone(),
        tunnel: workload.tunnel,
        weight: workload.weight,
        health: workload.health,
        locality: workload.locality.clone(),
        app: label("app"),
        version: label("version"),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use weft_model::{Health, Locality, Network, Protocol, Tunnel, WorkloadPort};

    use super::*;

    fn key(name: &str) -> ServiceKey {
        name.parse().unwrap()
    }

    fn service(name: &str) -> Service {
        Service { key: key(name), ports: Vec::new(), labels: BTreeMap::new(), addresses: Default::default() }
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
            locality: Locality::default(),
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
}
