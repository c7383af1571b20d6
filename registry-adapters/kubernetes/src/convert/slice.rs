//! An EndpointSlice: which instances a service has, and where.
//!
//! An endpoint that is a pod is known by the pod's uid, so that it is one instance however many slices it is in, and an
//! address that moves to another pod takes nothing with it. One that is no pod is known by service and address.

use std::net::IpAddr;

use weft_model::{Health, InstanceId, PortName, Protocol};
use weft_registry::Problem;

use super::service::port_name;
use super::{Context, known_protocol, object_name};
use crate::object::{Endpoint, ObjectKey, Port, Slice};

/// What is held of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SliceFacts {
    /// `namespace/name` of its service.
    pub(crate) service: ObjectKey,
    /// Whether Kubernetes' own controller keeps it.
    pub(crate) is_kept: bool,
    pub(crate) ports: Vec<SlicePort>,
    /// Sorted by id; an id may be there several times.
    pub(crate) endpoints: Vec<(InstanceId, EndpointFacts)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SlicePort {
    pub(crate) name: Option<PortName>,
    pub(crate) number: u16,
    pub(crate) protocol: Option<Protocol>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EndpointFacts {
    pub(crate) is_pod: bool,
    pub(crate) address: IpAddr,
    pub(crate) health: Health,
    pub(crate) node: Option<Box<str>>,
}

impl SliceFacts {
    /// The endpoints of one instance.
    pub(crate) fn of(&self, id: &InstanceId) -> &[(InstanceId, EndpointFacts)] {
        let from = self.endpoints.partition_point(|(had, _)| had < id);
        let to = self.endpoints.partition_point(|(had, _)| had <= id);
        self.endpoints.get(from..to).unwrap_or_default()
    }
}

/// Converts a slice; `None` for one that is of no service.
pub(crate) fn slice(context: &Context, slice: &Slice) -> (Option<SliceFacts>, Vec<Problem>) {
    let object = object_name("endpointslice", &slice.key);
    let Some(service) = &slice.service else { return (None, Vec::new()) };
    if slice.has_names {
        let message = "its addresses are host names, which are not resolved; it is left out";
        return (None, vec![Problem::warning(object, message).in_field("addressType")]);
    }
    let service = ObjectKey::new(slice.key.namespace(), service);
    let mut problems = Vec::new();
    let mut ports = Vec::new();
    for (i, port) in slice.ports.iter().enumerate() {
        match port_of(port) {
            Ok(port) => ports.extend(port.filter(|port| !ports.contains(port))),
            Err(reason) => {
                problems.push(Problem::error(object.as_str(), reason).in_field(format!("ports[{i}]")))
            }
        }
    }
    let mut endpoints = Vec::with_capacity(slice.endpoints.len());
    for (i, endpoint) in slice.endpoints.iter().enumerate() {
        match endpoint_of(context, &service, endpoint) {
            Ok(endpoint) => endpoints.push(endpoint),
            Err(reason) => problems
                .push(Problem::error(object.as_str(), reason).in_field(format!("endpoints[{i}].addresses"))),
        }
    }
    endpoints.sort_by(|(one, _), (other, _)| one.cmp(other));
    (Some(SliceFacts { service, is_kept: slice.is_kept, ports, endpoints }), problems)
}

/// `None` for a port that the mesh does not carry.
fn port_of(port: &Port) -> Result<Option<SlicePort>, String> {
    // No number stands for all ports (discovery/v1, EndpointPort): there is none to name then.
    if !port.is_tcp || port.number == 0 {
        return Ok(None);
    }
    let number = u16::try_from(port.number)
        .map_err(|_| format!("{} is no port; 1 to 65535 is expected", port.number))?;
    let protocol = known_protocol(port.app_protocol.as_deref(), &port.name);
    Ok(Some(SlicePort { name: port_name(port)?, number, protocol }))
}

fn endpoint_of(
    context: &Context,
    service: &ObjectKey,
    endpoint: &Endpoint,
) -> Result<(InstanceId, EndpointFacts), String> {
    // Only the first means anything (discovery/v1, Endpoint.addresses).
    let text = endpoint.addresses.first().ok_or("it has no address")?;
    let address: IpAddr = text.parse().map_err(|_| format!("{text:?} is no IP address"))?;
    if address.is_unspecified() {
        return Err(format!("{text:?} is no address to connect to"));
    }
    let id = match &endpoint.pod_uid {
        Some(uid) => format!("pod/{uid}"),
        None => format!("kubernetes/{}/{service}/{address}", context.registry.name()),
    };
    let id = id.parse().map_err(|error: weft_model::InvalidName| error.to_string())?;
    let is_pod = endpoint.pod_uid.is_some();
    let facts = EndpointFacts { is_pod, address, health: health(endpoint), node: endpoint.node.clone() };
    Ok((id, facts))
}

fn health(endpoint: &Endpoint) -> Health {
    match (endpoint.terminating, endpoint.serving, endpoint.ready) {
        // Also where it is called ready, as a service that publishes those that are not ready calls it.
        (true, true, _) => Health::Draining,
        (false, _, true) => Health::Healthy,
        _ => Health::Unhealthy,
    }
}
