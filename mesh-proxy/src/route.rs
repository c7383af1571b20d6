//! From what a caller names to a service and a port: pure functions of the request and the configuration.
//!
//! Names are `name`, `name.namespace`, `name.namespace.mesh` and `name.namespace.mesh.local`, in any case. Whether a
//! service exists is asked of the configuration by the caller of these functions; nothing here waits.

use weft_model::{Namespace, PortName, Protocol, ServiceKey, ServicePort};

use crate::config::{Endpoint, EndpointPort, ServiceConfig};
use crate::settings::PortRef;

/// A service named by `Host` or `:authority`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) service: ServiceKey,
    /// The port, where it was written.
    pub(crate) port: Option<u16>,
}

/// Reads an authority. `None`: it names no service of the mesh.
pub(crate) fn service_of_authority(authority: &str, own: &Namespace) -> Option<Named> {
    if authority.len() > 512 || authority.contains('@') {
        return None;
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (authority, None),
    };
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let mut labels = host.split('.');
    let name = labels.next()?;
    let namespace = labels.next();
    let suffix: Vec<&str> = labels.collect();
    if !matches!(suffix.as_slice(), [] | ["mesh"] | ["mesh", "local"]) {
        return None;
    }
    let namespace = match namespace {
        Some(text) => text.parse().ok()?,
        None => own.clone(),
    };
    Some(Named { service: ServiceKey { namespace, name: name.parse().ok()? }, port })
}

/// Which port of a service is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChosenPort {
    wanted: Option<PortRef>,
    declared: Option<ServicePort>,
}

impl ChosenPort {
    /// One that no service and no endpoint has registered.
    pub(crate) fn unregistered(wanted: Option<PortRef>) -> Self {
        Self { wanted, declared: None }
    }

    /// What is spoken there as the service declares it.
    pub(crate) fn declared_protocol(&self) -> Protocol {
        self.declared.as_ref().map_or(Protocol::Detect, |port| port.protocol)
    }

    /// The endpoint's port that answers for it. Names join a service's ports to its workloads' ports.
    pub(crate) fn on<'a>(&self, endpoint: &'a Endpoint) -> Option<&'a EndpointPort> {
        let ports = &endpoint.ports;
        let by_number = |number: u16| ports.iter().find(|port| port.number == number);
        if let Some(declared) = &self.declared {
            if let Some(name) = &declared.name {
                let named = ports.iter().find(|port| port.name.as_ref() == Some(name));
                return named.or_else(|| only_unnamed(ports)).or_else(|| by_number(declared.number));
            }
            return only_unnamed(ports).or_else(|| by_number(declared.number)).or_else(|| ports.first());
        }
        match &self.wanted {
            None => ports.first(),
            Some(PortRef::Name(name)) => ports.iter().find(|port| port.name.as_ref() == Some(name)),
            Some(PortRef::Number(number) | PortRef::Called(number)) => by_number(*number),
        }
    }
}

/// Finds the port that is wanted; without a wish the first. `None`: the service has no such port.
/// Where a service declares no ports its workloads' ports count, and each endpoint is asked for its own.
pub(crate) fn choose_port(service: &ServiceConfig, wanted: Option<&PortRef>) -> Option<ChosenPort> {
    let meant = match wanted {
        Some(PortRef::Called(number)) => meant(service, *number),
        written => written.cloned(),
    };
    let wanted = meant.as_ref();
    let declared = match wanted {
        None => service.ports.first(),
        Some(PortRef::Name(name)) => service.ports.iter().find(|port| port.name.as_ref() == Some(name)),
        Some(PortRef::Number(number) | PortRef::Called(number)) => {
            service.ports.iter().find(|port| port.number == *number)
        }
    };
    let chosen = ChosenPort { wanted: wanted.cloned(), declared: declared.cloned() };
    let exists = chosen.declared.is_some()
        || service.endpoints.iter().any(|endpoint| chosen.on(endpoint).is_some())
        // Nothing is known of the ports yet: no endpoint is the better answer then.
        || (service.ports.is_empty() && service.endpoints.is_empty());
    exists.then_some(chosen)
}

/// Which port is meant by a number that was called at the service's virtual address. A service whose own ports have numbers
/// is called by them. Where a registry gives it none (Consul, Nomad, workloads of files) its instances' numbers are no
/// caller's concern: it is the only port, or one that all of them happen to have, or for 80 the first that speaks HTTP.
fn meant(service: &ServiceConfig, called: u16) -> Option<PortRef> {
    if service.ports.iter().any(|port| port.number != 0) {
        return Some(PortRef::Number(called));
    }
    let only = match service.ports.len() {
        0 => service.endpoints.iter().all(|endpoint| endpoint.ports.len() <= 1),
        declared => declared == 1,
    };
    if only {
        return None;
    }
    let ports = || service.endpoints.iter().flat_map(|endpoint| &endpoint.ports);
    if called != 80 || ports().any(|port| port.number == called) {
        return Some(PortRef::Number(called));
    }
    let speaks_http = |name: Option<&PortName>, protocol: Protocol| {
        protocol.is_http() || name.is_some_and(|name| name.as_str() == "http")
    };
    let declared = service.ports.iter().find(|port| speaks_http(port.name.as_ref(), port.protocol));
    if let Some(name) = declared.and_then(|port| port.name.clone()) {
        return Some(PortRef::Name(name));
    }
    let port = ports().find(|port| speaks_http(port.name.as_ref(), port.protocol));
    port.map(|port| port.name.clone().map_or(PortRef::Number(port.number), PortRef::Name))
        .or(Some(PortRef::Number(called)))
}

/// What is spoken with an endpoint: the upstream's own setting, then the endpoint's port, then the service's.
pub(crate) fn protocol(setting: Option<Protocol>, endpoint: &EndpointPort, chosen: &ChosenPort) -> Protocol {
    let known = |protocol: &Protocol| *protocol != Protocol::Detect;
    setting
        .filter(known)
        .or(Some(endpoint.protocol).filter(known))
        .unwrap_or_else(|| chosen.declared_protocol())
}

/// What a listener has to expect of its callers: the same, before there is an endpoint. Where several endpoints
/// disagree the first bytes decide.
pub(crate) fn expected_protocol(
    setting: Option<Protocol>,
    service: &ServiceConfig,
    chosen: &ChosenPort,
) -> Protocol {
    let mut spoken = service
        .endpoints
        .iter()
        .filter_map(|endpoint| chosen.on(endpoint))
        .map(|port| protocol(setting, port, chosen));
    let Some(first) = spoken.next() else {
        return setting.unwrap_or_else(|| chosen.declared_protocol());
    };
    if spoken.all(|other| other == first) { first } else { Protocol::Detect }
}

fn only_unnamed(ports: &[EndpointPort]) -> Option<&EndpointPort> {
    match ports {
        [only] if only.name.is_none() => Some(only),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use weft_model::{Health, Locality, Tunnel};

    use super::*;

    fn named(authority: &str) -> Option<(String, Option<u16>)> {
        let own: Namespace = "shop".parse().unwrap();
        service_of_authority(authority, &own).map(|named| (named.service.to_string(), named.port))
    }

    #[test]
    fn every_documented_form_of_a_name_is_understood() {
        assert_eq!(named("api"), Some(("shop/api".into(), None)));
        assert_eq!(named("API:8080"), Some(("shop/api".into(), Some(8080))));
        assert_eq!(named("api.pay"), Some(("pay/api".into(), None)));
        assert_eq!(named("api.pay.mesh"), Some(("pay/api".into(), None)));
        assert_eq!(named("api.pay.mesh.local.:80"), Some(("pay/api".into(), Some(80))));
    }

    #[test]
    fn what_is_no_name_of_the_mesh_is_refused() {
        for other in [
            "",
            ":80",
            "example.com.au.x",
            "api.pay.svc",
            "[::1]:80",
            "user@api",
            "api:http",
            "api:99999",
            ".",
            "a..mesh",
        ] {
            assert_eq!(named(other), None, "{other}");
        }
    }

    fn port(name: Option<&str>, number: u16, protocol: Protocol) -> EndpointPort {
        EndpointPort { name: name.map(|name| name.parse().unwrap()), number, protocol }
    }

    fn service(ports: &[(Option<&str>, u16, Protocol)], endpoint: Vec<EndpointPort>) -> ServiceConfig {
        let declared = |(name, number, protocol): &(Option<&str>, u16, Protocol)| ServicePort {
            name: name.map(|name| name.parse().unwrap()),
            number: *number,
            protocol: *protocol,
        };
        let endpoint = Endpoint {
            id: "file/api-1".parse().unwrap(),
            addresses: vec!["10.0.0.1".parse().unwrap()],
            ports: endpoint,
            identity: None,
            tunnel: Tunnel::None,
            captured: false,
            weight: 100,
            health: Health::Healthy,
            locality: Locality::default(),
            node: None,
            app: "".into(),
            version: "".into(),
        };
        ServiceConfig {
            key: "api".parse().unwrap(),
            ports: ports.iter().map(declared).collect(),
            endpoints: vec![Arc::new(endpoint)],
            prefer: None,
        }
    }

    fn number_of(service: &ServiceConfig, wanted: Option<PortRef>) -> Option<u16> {
        let chosen = choose_port(service, wanted.as_ref())?;
        chosen.on(service.endpoints.first()?).map(|port| port.number)
    }

    #[test]
    fn names_join_a_services_ports_to_an_endpoints_ports() {
        let service = service(
            &[(Some("http"), 80, Protocol::Http1), (Some("admin"), 81, Protocol::Http1)],
            vec![port(Some("admin"), 9001, Protocol::Detect), port(Some("http"), 8080, Protocol::Detect)],
        );
        assert_eq!(number_of(&service, None), Some(8080));
        assert_eq!(number_of(&service, Some(PortRef::Number(81))), Some(9001));
        assert_eq!(number_of(&service, Some(PortRef::Name("admin".parse().unwrap()))), Some(9001));
        assert_eq!(number_of(&service, Some(PortRef::Number(5))), None);
    }

    #[test]
    fn without_declared_ports_those_of_the_endpoints_count() {
        let service = service(&[], vec![port(None, 8080, Protocol::Http1)]);
        assert_eq!(number_of(&service, None), Some(8080));
        assert_eq!(number_of(&service, Some(PortRef::Number(8080))), Some(8080));
        assert_eq!(number_of(&service, Some(PortRef::Number(80))), None);
    }

    fn called(service: &ServiceConfig, number: u16) -> Option<u16> {
        number_of(service, Some(PortRef::Called(number)))
    }

    #[test]
    fn a_service_whose_ports_have_numbers_is_called_by_them() {
        let service = service(
            &[(Some("http"), 80, Protocol::Http1), (Some("pg"), 5432, Protocol::Tcp)],
            vec![port(Some("pg"), 15432, Protocol::Detect), port(Some("http"), 8080, Protocol::Detect)],
        );
        assert_eq!((called(&service, 80), called(&service, 5432)), (Some(8080), Some(15432)));
        assert_eq!(called(&service, 443), None);
    }

    #[test]
    fn the_only_port_of_a_service_without_numbers_is_meant_by_every_number() {
        let undeclared = service(&[], vec![port(None, 23456, Protocol::Detect)]);
        assert_eq!((called(&undeclared, 80), called(&undeclared, 5432)), (Some(23456), Some(23456)));
        let declared =
            service(&[(Some("pg"), 0, Protocol::Tcp)], vec![port(Some("pg"), 23456, Protocol::Detect)]);
        assert_eq!(called(&declared, 5432), Some(23456));
    }

    #[test]
    fn of_several_ports_without_numbers_80_is_the_one_that_speaks_http() {
        let ports = || {
            vec![
                port(Some("admin"), 23001, Protocol::Tcp),
                port(Some("http"), 23002, Protocol::Detect),
                port(Some("grpc"), 23003, Protocol::Grpc),
            ]
        };
        let undeclared = service(&[], ports());
        assert_eq!((called(&undeclared, 80), called(&undeclared, 23003)), (Some(23002), Some(23003)));
        assert_eq!(called(&undeclared, 443), None);
        let names = [(Some("admin"), 0, Protocol::Tcp), (Some("grpc"), 0, Protocol::Grpc)];
        assert_eq!(called(&service(&names, ports()), 80), Some(23003));
        let bytes = vec![port(Some("a"), 1, Protocol::Tcp), port(Some("b"), 2, Protocol::Tcp)];
        assert_eq!(called(&service(&[], bytes), 80), None);
    }

    #[test]
    fn the_upstreams_setting_beats_the_endpoint_which_beats_the_service() {
        let service = service(&[(None, 80, Protocol::Http1)], vec![port(None, 8080, Protocol::Grpc)]);
        let chosen = choose_port(&service, None).unwrap();
        let on = chosen.on(&service.endpoints[0]).unwrap();
        assert_eq!(protocol(Some(Protocol::Tcp), on, &chosen), Protocol::Tcp);
        assert_eq!(protocol(None, on, &chosen), Protocol::Grpc);
        let undeclared = port(None, 8080, Protocol::Detect);
        assert_eq!(protocol(None, &undeclared, &chosen), Protocol::Http1);
        assert_eq!(expected_protocol(None, &service, &chosen), Protocol::Grpc);
    }

    proptest! {
        #[test]
        fn no_authority_makes_it_panic(authority in "\\PC{0,60}") {
            let own: Namespace = "shop".parse().unwrap();
            let _ = service_of_authority(&authority, &own);
        }
    }
}
