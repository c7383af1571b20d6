//! Nomad's objects to workloads. Pure: one registration with its allocation, job, node and checks in, a workload out.
//!
//! Health, worst first: an allocation that is to stop drains; one that does not run, whose node is down, whose deployment
//! found it unhealthy, or one of whose service's checks does not pass, is unhealthy. One on a node that Nomad has lost sight
//! of may live on: it is unknown, which is used, and callers find out. Everything else that runs is healthy.
//! What is wrong in `meta` or tags keeps the workload's last good state.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;

use weft_model::{
    Health, KeySyntax, Locality, Metadata, Namespace, Network, NodeName, PortName, Provenance, RegistryId,
    ServiceKey, ServiceName, Severity, SpiffeId, TrustDomain, Tunnel, Workload, WorkloadPort,
};
use weft_registry::{Problem, nomad_instance};

use crate::answer::{Allocation, CheckResult, Job, Node, Registration, TaskGroup};
use crate::identity::IdentityRules;
use crate::sidecar::{REDIRECT_TASK, TUNNEL_PORT};

/// What the conversion knows besides the answers.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) registry: RegistryId,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) identities: IdentityRules,
}

/// A registration with all that is known about it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) registration: &'a Registration,
    pub(crate) allocation: &'a Allocation,
    pub(crate) job: &'a Job,
    pub(crate) node: Option<&'a Node>,
    /// What its node said last of its checks; `None`: it was not asked, or did not answer.
    pub(crate) checks: Option<&'a [CheckResult]>,
}

type Refused = (&'static str, String);

/// The workload, or `None` with an error among the problems.
pub(crate) fn workload(
    context: &Context,
    known: Known<'_>,
    since_unix_ms: u64,
    problems: &mut Vec<Problem>,
) -> Option<Workload> {
    let object = object(known.registration, known.allocation);
    let group = group(known.job, &known.allocation.task_group);
    let metadata = metadata(context, known, group, &object, problems)?;
    match parts(context, known, group, &metadata) {
        Ok(mut workload) => {
            let registry = context.registry.clone();
            workload.provenance = BTreeSet::from([Provenance { registry, object, since_unix_ms }]);
            Some(workload)
        }
        Err((field, message)) => {
            problems.push(Problem::error(object, message).in_field(field));
            None
        }
    }
}

/// As its owner finds it again: `job/group[0] service`.
pub(crate) fn object(registration: &Registration, allocation: &Allocation) -> String {
    let name = if allocation.name.is_empty() { allocation.id.as_str() } else { allocation.name.as_str() };
    match registration.namespace.as_str() {
        "default" => format!("{name} {}", registration.service_name),
        namespace => format!("{namespace}/{name} {}", registration.service_name),
    }
}

fn parts(
    context: &Context,
    known: Known<'_>,
    group: &TaskGroup,
    metadata: &Metadata,
) -> Result<Workload, Refused> {
    let (registration, allocation) = (known.registration, known.allocation);
    let name: ServiceName = registration.service_name.parse().map_err(|e| ("Name", text(&e)))?;
    let name = metadata.service().cloned().unwrap_or(name);
    let number = port(registration)?;
    let registered = address("Address", &registration.address)?;
    let id = nomad_instance(&registration.id, &registration.service_name, &number.to_string())
        .ok_or_else(|| ("ID", format!("{:?} is no id of Nomad's", registration.id)))?;
    let label = id.rsplit('/').next().unwrap_or_default().to_owned();
    let port_name = metadata.port().cloned().or_else(|| label.parse::<PortName>().ok());
    let protocol = metadata.protocol_for(port_name.as_ref()).unwrap_or_default();
    let ports = vec![WorkloadPort { name: port_name, number, protocol }];
    let (tunnel, addresses) = tunnel(allocation, registered, metadata)?;
    Ok(Workload {
        id: id.parse().map_err(|error| ("ID", text(&error)))?,
        identity: Some(identity(context, known, group)?),
        services: BTreeMap::from([(ServiceKey::new(metadata.namespace().clone(), name), ports)]),
        addresses,
        network: metadata.network().cloned().unwrap_or_else(Network::default_network),
        tunnel,
        captured: group.tasks.iter().any(|task| task.name == REDIRECT_TASK),
        locality: metadata.locality().cloned().unwrap_or_else(|| locality(known.node)),
        node: metadata.node().cloned().or_else(|| node_name(context, known)),
        weight: metadata.weight().unwrap_or(Workload::DEFAULT_WEIGHT),
        health: health(known, group),
        labels: labels(known, metadata),
        provenance: BTreeSet::new(),
    })
}

fn text(error: &weft_model::InvalidName) -> String {
    error.to_string()
}

/// The group of a job; one that is not there has no `meta` and no checks.
fn group<'a>(job: &'a Job, name: &str) -> &'a TaskGroup {
    static NONE: std::sync::LazyLock<TaskGroup> = std::sync::LazyLock::new(TaskGroup::default);
    job.task_groups.iter().find(|group| group.name == name).unwrap_or(&NONE)
}

fn port(registration: &Registration) -> Result<u16, Refused> {
    match u16::try_from(registration.port) {
        Ok(0) => Err(("Port", "it is registered without a port; 1 to 65535 is expected".to_owned())),
        Ok(port) => Ok(port),
        Err(_) => Err(("Port", format!("{} is no port; 1 to 65535 is expected", registration.port))),
    }
}

fn address(field: &'static str, text: &str) -> Result<IpAddr, Refused> {
    match text.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() => Err((field, format!("{text:?} is no address to connect to"))),
        Ok(ip) => Ok(ip),
        Err(_) => Err((field, format!("{text:?} is no IP address; host names are not resolved"))),
    }
}

/// How the proxy is reached, and the addresses, the one of the tunnel first.
fn tunnel(
    allocation: &Allocation,
    registered: IpAddr,
    metadata: &Metadata,
) -> Result<(Tunnel, Vec<IpAddr>), Refused> {
    if let Some(tunnel) = metadata.tunnel() {
        return Ok((tunnel, vec![registered]));
    }
    let Some(port) = allocation.port(TUNNEL_PORT) else { return Ok((Tunnel::None, vec![registered])) };
    let number = |number: i64| {
        let valid = u16::try_from(number).ok().filter(|number| *number != 0);
        valid.ok_or_else(|| ("Ports", format!("{TUNNEL_PORT} is {number}; 1 to 65535 is expected")))
    };
    let host = address("Ports.HostIP", &port.host)?;
    let registered_elsewhere = allocation
        .allocated_resources
        .iter()
        .flat_map(|resources| &resources.shared.ports)
        .all(|port| port.host.parse() != Ok(registered));
    // The allocation's own address leads inside, where the tunnel has its own number.
    if registered_elsewhere && port.to > 0 {
        return Ok((Tunnel::Port(number(port.to)?), vec![registered]));
    }
    let mut addresses = vec![host];
    addresses.extend((registered != host).then_some(registered));
    Ok((Tunnel::Port(number(port.value)?), addresses))
}

/// As attestation decides it.
fn identity(context: &Context, known: Known<'_>, group: &TaskGroup) -> Result<SpiffeId, Refused> {
    let namespace: Namespace =
        known.allocation.namespace.parse().map_err(|error| ("Namespace", text(&error)))?;
    let job = if known.job.parent.is_empty() { &known.allocation.job } else { &known.job.parent };
    let key = KeySyntax::Slash.written("identity");
    let claimed = group.meta.get(&key).or_else(|| known.job.meta.get(&key)).map(String::as_str);
    let proven = context.identities.identity(&context.trust_domain, &namespace, job, claimed);
    proven.map_err(|error| ("meta", error.to_string()))
}

/// What the user wrote: the job's `meta`, the group's, and the service's own tags, later ones winning.
fn metadata(
    context: &Context,
    known: Known<'_>,
    group: &TaskGroup,
    object: &str,
    problems: &mut Vec<Problem>,
) -> Option<Metadata> {
    let mut pairs: BTreeMap<&str, &str> = BTreeMap::new();
    for meta in [&known.job.meta, &group.meta] {
        pairs.extend(meta.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    }
    let tags = known.registration.tags.iter().filter_map(|tag| tag.split_once('='));
    pairs.extend(tags.filter(|(key, _)| KeySyntax::Slash.key_of(key).is_some()));
    let namespace = match known.registration.namespace.parse::<Namespace>() {
        Ok(namespace) => namespace,
        Err(error) => {
            problems.push(Problem::error(object, error.to_string()).in_field("Namespace"));
            return None;
        }
    };
    let (metadata, found) = Metadata::parse(KeySyntax::Slash, pairs, &context.trust_domain, &namespace);
    let mut usable = true;
    for problem in found {
        let field = format!("meta.{}", problem.key);
        usable &= problem.severity == Severity::Warning;
        let made = match problem.severity {
            Severity::Warning => Problem::warning(object, problem.to_string()),
            Severity::Error => Problem::error(object, problem.to_string()),
        };
        problems.push(made.in_field(field));
    }
    usable.then_some(metadata)
}

fn health(known: Known<'_>, group: &TaskGroup) -> Health {
    let Known { registration, allocation, node, checks, .. } = known;
    if !matches!(allocation.desired_status.as_str(), "run" | "") {
        return Health::Draining;
    }
    let node_status = node.map_or("ready", |node| node.status.as_str());
    match (allocation.client_status.as_str(), node_status) {
        (_, "down") => return Health::Unhealthy,
        ("unknown", _) | (_, "disconnected") => return Health::Unknown,
        ("running", _) => {}
        _ => return Health::Unhealthy,
    }
    if !group.checks(&registration.service_name) {
        return Health::Healthy;
    }
    let deployed = allocation.deployment_status.as_ref().and_then(|status| status.healthy);
    match checks {
        Some(results) => {
            let mut own =
                results.iter().filter(|result| result.service == registration.service_name).peekable();
            match own.peek().is_some() && own.all(|result| result.status == "success") {
                true => Health::Healthy,
                false => Health::Unhealthy,
            }
        }
        // Its node does not say: what the deployment found is the last that is known.
        None if deployed == Some(true) => Health::Healthy,
        None => Health::Unhealthy,
    }
}

/// The node's datacenter, zone, and its class or else pool.
fn locality(node: Option<&Node>) -> Locality {
    let Some(node) = node else { return Locality::default() };
    let pool = Some(node.node_pool.as_str()).filter(|pool| *pool != "default").unwrap_or_default();
    let narrow = if node.node_class.is_empty() { pool } else { node.node_class.as_str() };
    let parts = [node.datacenter.as_str(), node.zone.as_str(), narrow];
    let known = parts.iter().take_while(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("/");
    known.parse().unwrap_or_default()
}

fn node_name(context: &Context, known: Known<'_>) -> Option<NodeName> {
    let name = known.node.map_or(known.allocation.node_name.as_str(), |node| node.name.as_str());
    format!("{}/{name}", context.registry).parse().ok()
}

/// Tags as `tag/TAG`, the job, its group and version, a canary, and what ours says.
fn labels(known: Known<'_>, metadata: &Metadata) -> BTreeMap<String, String> {
    let plain = known.registration.tags.iter().filter(|tag| KeySyntax::Slash.key_of(tag).is_none());
    let mut labels: BTreeMap<String, String> =
        plain.map(|tag| (format!("tag/{tag}"), "true".to_owned())).collect();
    let allocation = known.allocation;
    labels.insert("nomad/job".to_owned(), allocation.job.clone());
    labels.insert("nomad/group".to_owned(), allocation.task_group.clone());
    labels.insert("nomad/job-version".to_owned(), allocation.job_version.to_string());
    if allocation.deployment_status.as_ref().is_some_and(|status| status.canary) {
        labels.insert("nomad/canary".to_owned(), "true".to_owned());
    }
    labels.extend(metadata.labels().map(|(key, value)| (key.to_owned(), value.to_owned())));
    labels
}

#[cfg(test)]
mod tests;
