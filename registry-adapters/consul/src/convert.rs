//! Consul's JSON to workloads. Pure: one service's answer in, workloads and problems out.
//!
//! All checks are read and judged here. An instance that can't be used as it stands keeps its last good state, which the
//! caller hands in; its owner reads why among the problems. What another mesh or a gateway registers is no workload.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use weft_model::{
    Health, InstanceId, KeySyntax, Locality, Metadata, Namespace, Network, Provenance, RegistryId,
    ServiceKey, ServiceName, TrustDomain, Tunnel, Workload, WorkloadPort,
};
use weft_registry::{Problem, Severity, nomad_instance};

use crate::answer::{Check, HealthEntry, Weights};

/// What the conversion knows besides the answer.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) registry: RegistryId,
    pub(crate) trust_domain: TrustDomain,
}

/// What came of one service's answer.
#[derive(Debug, Default)]
pub(crate) struct Converted {
    pub(crate) workloads: Vec<Workload>,
    pub(crate) problems: Vec<Problem>,
}

/// Converts all instances of a service; `last` is what came of the answer before.
pub(crate) fn convert(
    context: &Context,
    entries: &[HealthEntry],
    last: &[Workload],
    now_unix_ms: u64,
) -> Converted {
    let mut converted = Converted::default();
    // Nomad may register one port of an allocation twice under one service; the instance is one.
    let mut seen = BTreeSet::new();
    for entry in entries.iter().filter(|entry| is_application(entry)) {
        let object = object(entry);
        let before =
            last.iter().find(|workload| workload.provenance.iter().any(|from| from.object == object));
        let since = before.and_then(|workload| workload.provenance.first()).map(|from| from.since_unix_ms);
        let provenance = Provenance {
            registry: context.registry.clone(),
            object,
            since_unix_ms: since.unwrap_or(now_unix_ms),
        };
        match workload(context, entry, provenance, &mut converted.problems) {
            Some(workload) if seen.insert(workload.id.clone()) => converted.workloads.push(workload),
            Some(_) => {}
            None => converted
                .workloads
                .extend(before.filter(|workload| seen.insert(workload.id.clone())).cloned()),
        }
    }
    converted.workloads.sort_by(|a, b| a.id.cmp(&b.id));
    converted
}

/// Sidecars and gateways of Consul's own mesh have a kind.
fn is_application(entry: &HealthEntry) -> bool {
    entry.service.kind.is_empty()
}

fn object(entry: &HealthEntry) -> String {
    format!("{}/{}", entry.node.node, entry.service.id)
}

/// One instance, or `None` with an error among the problems.
fn workload(
    context: &Context,
    entry: &HealthEntry,
    provenance: Provenance,
    problems: &mut Vec<Problem>,
) -> Option<Workload> {
    let object = provenance.object.clone();
    let mut refuse = |field: &str, message: String| {
        problems.push(Problem::error(object.as_str(), message).in_field(field))
    };
    let parts = (|| {
        let name: ServiceName = entry.service.service.parse().map_err(|e| ("Service", to_text(&e)))?;
        let namespace = namespace(entry)?;
        let id = instance_id(entry)?;
        let number = port(entry)?;
        let addresses = addresses(entry)?;
        Ok::<_, (&str, String)>((name, namespace, id, number, addresses))
    })();
    let (name, namespace, id, number, addresses) = match parts {
        Ok(parts) => parts,
        Err((field, message)) => {
            refuse(field, message);
            return None;
        }
    };
    let metadata = metadata(context, entry, &namespace, &object, problems)?;
    let name = metadata.service().cloned().unwrap_or(name);
    let port_name = metadata.port().cloned();
    let protocol = metadata.protocol_for(port_name.as_ref()).unwrap_or_default();
    let ports = vec![WorkloadPort { name: port_name, number, protocol }];
    let (health, weight) = health_and_weight(&entry.checks, entry.service.weights, metadata.weight());
    Some(Workload {
        id,
        identity: Some(metadata.identity_or(&name)),
        services: BTreeMap::from([(ServiceKey::new(metadata.namespace().clone(), name), ports)]),
        addresses,
        network: metadata.network().cloned().unwrap_or_else(Network::default_network),
        tunnel: metadata.tunnel().unwrap_or(Tunnel::None),
        captured: metadata.proxy().redirected,
        locality: metadata.locality().cloned().unwrap_or_else(|| datacenter_as_region(entry)),
        node: metadata.node().cloned(),
        weight,
        health,
        labels: labels(entry, &metadata),
        provenance: BTreeSet::from([provenance]),
    })
}

type Refused = (&'static str, String);

fn to_text(error: &weft_model::InvalidName) -> String {
    error.to_string()
}

fn namespace(entry: &HealthEntry) -> Result<Namespace, Refused> {
    match entry.service.namespace.as_str() {
        "" => Ok(Namespace::default_namespace()),
        name => name.parse().map_err(|error| ("Namespace", to_text(&error))),
    }
}

fn port(entry: &HealthEntry) -> Result<u16, Refused> {
    match u16::try_from(entry.service.port) {
        Ok(0) => Err(("Port", "it is registered without a port; 1 to 65535 is expected".to_owned())),
        Ok(port) => Ok(port),
        Err(_) => Err(("Port", format!("{} is no port; 1 to 65535 is expected", entry.service.port))),
    }
}

/// `nomad/ALLOC/PORT` for what Nomad registered, so that it is the same instance in Nomad's registry; else
/// `consul/DC/NODE/SERVICE-ID`.
fn instance_id(entry: &HealthEntry) -> Result<InstanceId, Refused> {
    let service = &entry.service;
    let nomads = nomad_instance(&service.id, &service.service, &service.port.to_string());
    let text = nomads.unwrap_or_else(|| {
        format!("consul/{}/{}/{}", entry.node.datacenter, entry.node.node, entry.service.id)
    });
    text.parse().map_err(|error| ("ID", to_text(&error)))
}

/// The service's address, else the node's, and then what is tagged: LAN before WAN, each of the same port.
fn addresses(entry: &HealthEntry) -> Result<Vec<IpAddr>, Refused> {
    let (service, node) = (&entry.service, &entry.node);
    let (field, main) = match service.address.as_str() {
        "" => ("Node.Address", node.address.as_str()),
        address => ("Address", address),
    };
    let mut addresses = vec![address(field, main)?];
    for tag in ["lan", "lan_ipv4", "lan_ipv6", "wan", "wan_ipv4", "wan_ipv6"] {
        let tagged = if service.address.is_empty() {
            node.tagged_addresses.get(tag).map(String::as_str)
        } else {
            // An instance has one port number; an address where it has another one is a forwarder's.
            let same_port =
                |tagged: &&crate::answer::TaggedAddress| tagged.port == 0 || tagged.port == service.port;
            service.tagged_addresses.get(tag).filter(same_port).map(|tagged| tagged.address.as_str())
        };
        let Some(tagged) = tagged.filter(|text| !text.is_empty()) else { continue };
        let tagged = address("TaggedAddresses", tagged)?;
        if !addresses.contains(&tagged) {
            addresses.push(tagged);
        }
    }
    Ok(addresses)
}

fn address(field: &'static str, text: &str) -> Result<IpAddr, Refused> {
    match text.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() => Err((field, format!("{text:?} is no address to connect to"))),
        Ok(ip) => Ok(ip),
        Err(_) => Err((field, format!("{text:?} is no IP address; host names are not resolved"))),
    }
}

/// What the user wrote in `Meta`. `None` where a value is wrong: the instance is not used as it stands.
fn metadata(
    context: &Context,
    entry: &HealthEntry,
    namespace: &Namespace,
    object: &str,
    problems: &mut Vec<Problem>,
) -> Option<Metadata> {
    // In order, since Meta is unordered and so would be the problems.
    let pairs: BTreeMap<&str, &str> =
        entry.service.meta.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let (metadata, found) = Metadata::parse(KeySyntax::Dash, pairs, &context.trust_domain, namespace);
    let mut usable = true;
    for problem in found {
        let field = format!("Meta.{}", problem.key);
        let made = match problem.severity {
            weft_model::Severity::Warning => Problem::warning(object, problem.to_string()),
            weft_model::Severity::Error => Problem::error(object, problem.to_string()),
        };
        usable &= made.severity == Severity::Warning;
        problems.push(made.in_field(field));
    }
    usable.then_some(metadata)
}

/// Any critical check makes it unhealthy, but maintenance is asked for and only drains. A warning takes the weight for
/// warnings. Nothing checked (an external node without an agent) is unknown.
fn health_and_weight(checks: &[Check], weights: Weights, explicit: Option<u32>) -> (Health, u32) {
    let is_maintenance =
        |check: &Check| check.id == "_node_maintenance" || check.id.starts_with("_service_maintenance:");
    let critical = |check: &&Check| !matches!(check.status.as_str(), "passing" | "warning");
    let warning = checks.iter().any(|check| check.status == "warning");
    let health = if checks.iter().filter(critical).any(|check| !is_maintenance(check)) {
        Health::Unhealthy
    } else if checks.iter().filter(critical).any(is_maintenance) {
        Health::Draining
    } else if checks.is_empty() {
        Health::Unknown
    } else {
        Health::Healthy
    };
    let clamp = |weight: i64| u32::try_from(weight.clamp(0, 65_535)).unwrap_or(0);
    let (passing, in_warning) = (clamp(weights.passing), clamp(weights.warning));
    let full = explicit.unwrap_or(passing * Workload::DEFAULT_WEIGHT);
    // As much less as Consul would give it, also where the weight itself is ours.
    let scaled = u64::from(full) * u64::from(in_warning) / u64::from(passing.max(1));
    (health, if warning { u32::try_from(scaled).unwrap_or(u32::MAX) } else { full })
}

fn datacenter_as_region(entry: &HealthEntry) -> Locality {
    Locality { region: entry.node.datacenter.clone(), ..Locality::default() }
}

/// Tags as `tag/TAG`, other people's Meta as it is, and what ours says.
fn labels(entry: &HealthEntry, metadata: &Metadata) -> BTreeMap<String, String> {
    let tags = entry.service.tags.iter().map(|tag| (format!("tag/{tag}"), "true".to_owned()));
    let foreign = entry.service.meta.iter().filter(|(key, _)| KeySyntax::Dash.key_of(key).is_none());
    let foreign = foreign.map(|(key, value)| (key.clone(), value.clone()));
    let ours = metadata.labels().map(|(key, value)| (key.to_owned(), value.to_owned()));
    tags.chain(foreign).chain(ours).collect()
}

#[cfg(test)]
mod tests;
