//! A Service: its name, its ports as callers see them, and the addresses that stand for it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use weft_model::{
    Namespace, NetworkAddress, PortName, Protocol, Service as Declaration, ServiceKey, ServiceName,
    ServicePort,
};
use weft_registry::Problem;

use super::{About, Context, Written, known_protocol, object_name, traffic};
use crate::object::{Port, Service};

/// What is held of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) key: ServiceKey,
    /// Whether its slices count: not those of an `ExternalName`.
    pub(crate) has_members: bool,
    /// What the mesh is told; `None` while its annotations are wrong and never were right.
    pub(crate) declaration: Option<Declaration>,
    /// The addresses of its load balancer, which others may claim as well.
    pub(crate) balancers: BTreeSet<NetworkAddress>,
    written: Written,
}

impl Declared {
    /// The protocol of the port of this name, where the service knows.
    pub(crate) fn protocol_for(&self, name: Option<&PortName>) -> Option<Protocol> {
        let ports = self.declaration.iter().flat_map(|declaration| &declaration.ports);
        let protocol = ports.into_iter().find(|port| port.name.as_ref() == name)?.protocol;
        (protocol != Protocol::Detect).then_some(protocol)
    }
}

/// Converts a Service; `None` for one that is left out of the mesh altogether.
pub(crate) fn service(
    context: &Context,
    service: &Service,
    before: Option<&Declared>,
) -> (Option<Declared>, Vec<Problem>) {
    let object = || object_name("service", &service.key);
    let named = || {
        let namespace: Namespace = service.key.namespace().parse()?;
        let name: ServiceName = service.key.name().parse()?;
        Ok(ServiceKey::new(namespace, name))
    };
    let key = match named() {
        Ok(key) => key,
        Err(error) => {
            let error: weft_model::InvalidName = error;
            return (None, vec![Problem::error(object(), error.to_string())]);
        }
    };
    if service.key.as_str() == OWN_API {
        return (None, Vec::new());
    }
    if let Some(host) = &service.external_name {
        let message = format!("it stands for {host:?} by name only, and is left out of the mesh");
        let problem = Problem::warning(object(), message).in_field("spec.externalName");
        let declared = Declared {
            key,
            has_members: false,
            declaration: None,
            balancers: BTreeSet::new(),
            written: Written::Nothing,
        };
        return (Some(declared), vec![problem]);
    }
    let about =
        About { kind: "service", key: &service.key, namespace: &key.namespace, meaningless: &MEANINGLESS };
    let (written, mut problems) =
        Written::read(context, &about, &service.annotations, before.map(|before| &before.written));
    let declaration = (written != Written::Refused).then(|| Declaration {
        key: key.clone(),
        ports: ports(service, &written, &object(), &mut problems),
        labels: Default::default(),
        addresses: addresses(context, service, &object(), &mut problems),
        prefer: traffic::prefer(&service.traffic, &object(), &mut problems),
    });
    let balancers = balancers(context, service, &object(), &mut problems);
    (Some(Declared { key, has_members: true, declaration, balancers, written }), problems)
}

/// The ports that carry TCP, in order. Others are not the mesh's.
fn ports(
    service: &Service,
    written: &Written,
    object: &str,
    problems: &mut Vec<Problem>,
) -> Vec<ServicePort> {
    let mut made: Vec<ServicePort> = Vec::new();
    for (i, port) in service.ports.iter().enumerate().filter(|(_, port)| port.is_tcp) {
        let field = format!("spec.ports[{i}]");
        match port_of(port, written) {
            // The API refuses both; who gets round it has the first one.
            Ok(port) if made.iter().any(|had| had.number == port.number || had.name == port.name) => {
                let message = "an earlier port has its number or name; it is left out";
                problems.push(Problem::warning(object, message).in_field(field));
            }
            Ok(port) => made.push(port),
            Err(reason) => problems.push(Problem::error(object, reason).in_field(field)),
        }
    }
    made.sort();
    made
}

fn port_of(port: &Port, written: &Written) -> Result<ServicePort, String> {
    let name = port_name(port)?;
    let number = u16::try_from(port.number).ok().filter(|number| *number != 0);
    let number = number.ok_or_else(|| format!("{} is no port; 1 to 65535 is expected", port.number))?;
    let protocol = written.protocol_for(name.as_ref());
    let protocol = protocol.or_else(|| known_protocol(port.app_protocol.as_deref(), &port.name));
    Ok(ServicePort { name, number, protocol: protocol.unwrap_or_default() })
}

/// The name of a port; `None` where it has none, as a service's only port may.
pub(super) fn port_name(port: &Port) -> Result<Option<PortName>, String> {
    match port.name.as_ref() {
        "" => Ok(None),
        name => name.parse().map(Some).map_err(|error: weft_model::InvalidName| error.to_string()),
    }
}

fn addresses(
    context: &Context,
    service: &Service,
    object: &str,
    problems: &mut Vec<Problem>,
) -> BTreeSet<NetworkAddress> {
    let mut made = BTreeSet::new();
    for ip in &service.cluster_ips {
        match ip.parse::<IpAddr>() {
            Ok(ip) => drop(made.insert(NetworkAddress { network: context.network.clone(), ip })),
            Err(_) => problems
                .push(Problem::error(object, format!("{ip:?} is no IP address")).in_field("spec.clusterIPs")),
        }
    }
    made
}

/// Those of the load balancer at which a caller can mean the service.
fn balancers(
    context: &Context,
    service: &Service,
    object: &str,
    problems: &mut Vec<Problem>,
) -> BTreeSet<NetworkAddress> {
    let mut made = BTreeSet::new();
    for ip in &service.balancer_ips {
        match ip.parse::<IpAddr>() {
            Ok(ip) if !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast()) => {
                made.insert(NetworkAddress { network: context.network.clone(), ip });
            }
            _ => {
                let message = format!("{ip:?} is no address that callers of a service have; it is left out");
                let problem = Problem::warning(object, message);
                problems.push(problem.in_field("status.loadBalancer.ingress"));
            }
        }
    }
    made
}

/// The API server's own service: of the same name in each cluster, and not the same service. It is left out.
pub(crate) const OWN_API: &str = "default/kubernetes";

const MEANINGLESS: [(&str, &str); 11] = [
    ("identity", OF_PODS),
    ("tunnel", OF_PODS),
    ("weight", OF_PODS),
    ("locality", OF_PODS),
    ("node", "a pod's node is its own"),
    ("network", "a cluster's network is in the settings of its registry"),
    ("version", OF_PODS),
    ("app", OF_PODS),
    ("service", "a Service's name is its own; a registry's mapping can rename it"),
    ("namespace", "a Service's namespace is its own; a registry's mapping can rename it"),
    ("port", "a Service's ports have names of their own"),
];

const OF_PODS: &str = "it belongs on pods";
