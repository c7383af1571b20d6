//! `weft.mesh.v1.Workload` and the model's [`Workload`].
//!
//! Provenance stays at home, and of the labels only those that proxies use travel: a change of a workload costs under
//! 0.4 kB a subscriber.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::Bytes;
use weft_model::{Health, Network, ServiceKey, SpiffeId, Tunnel, Workload, WorkloadPort};

use super::field::{
    InvalidField, InvalidResource, ascending, labels, message, parse, same_name, write_labels,
};
use super::port::{number, workload_ports, write_workload_ports};
use crate::mesh::v1 as wire;

impl From<&Workload> for wire::Workload {
    fn from(workload: &Workload) -> Self {
        let membership = |(key, ports): (&ServiceKey, &Vec<WorkloadPort>)| wire::Membership {
            service: key.to_string(),
            ports: write_workload_ports(ports),
        };
        let mut addresses: Vec<Bytes> = Vec::with_capacity(workload.addresses.len());
        for address in &workload.addresses {
            let octets = octets(*address);
            if !addresses.contains(&octets) {
                addresses.push(octets);
            }
        }
        Self {
            id: workload.id.as_str().to_owned(),
            services: workload.services.iter().map(membership).collect(),
            addresses,
            network: match workload.network == Network::default_network() {
                true => String::new(),
                false => workload.network.as_str().to_owned(),
            },
            identity: workload.identity.as_ref().map_or_else(String::new, |id| id.as_str().to_owned()),
            tunnel_port: match workload.tunnel {
                Tunnel::None => 0,
                Tunnel::Port(port) => u32::from(port),
            },
            captured: workload.captured,
            locality: workload.locality.to_string(),
            node: workload.node.as_ref().map_or_else(String::new, |node| node.as_str().to_owned()),
            weight: workload.weight,
            health: write_health(workload.health).into(),
            labels: write_labels(
                workload.labels.iter().filter(|(key, _)| TRAVELLING.contains(&key.as_str())),
            ),
        }
    }
}

/// Reads the workload that came under the resource name `name`. Its provenance is empty.
///
/// # Errors
/// On anything that is not understood in full.
pub fn workload(name: &str, encoded: Bytes) -> Result<Workload, InvalidResource> {
    read_workload(name, message(name, encoded)?).map_err(|invalid| invalid.of(name))
}

pub(super) fn read_workload(name: &str, wire: wire::Workload) -> Result<Workload, InvalidField> {
    same_name("id", name, &wire.id)?;
    let network = match wire.network.as_str() {
        "" => Network::default_network(),
        network => parse("network", network)?,
    };
    let identity: Option<SpiffeId> = match wire.identity.as_str() {
        "" => None,
        identity => Some(parse("identity", identity)?),
    };
    let tunnel = match number("tunnel_port", wire.tunnel_port)? {
        0 => Tunnel::None,
        port => Tunnel::Port(port),
    };
    Ok(Workload {
        id: parse("id", &wire.id)?,
        services: memberships(wire.services)?,
        addresses: addresses(&wire.addresses)?,
        network,
        identity,
        tunnel,
        captured: wire.captured,
        locality: parse("locality", &wire.locality)?,
        node: match wire.node.as_str() {
            "" => None,
            node => Some(parse("node", node)?),
        },
        weight: wire.weight,
        health: health(wire.health)?,
        labels: labels(wire.labels)?,
        provenance: Default::default(),
    })
}

fn memberships(
    services: Vec<wire::Membership>,
) -> Result<BTreeMap<ServiceKey, Vec<WorkloadPort>>, InvalidField> {
    let mut read = BTreeMap::new();
    for (i, membership) in services.into_iter().enumerate() {
        let outer = format!("services[{i}]");
        let path = format!("{outer}.service");
        let key: ServiceKey = parse(&path, &membership.service)?;
        // `name` alone is understood from users, not on the wire: one service has one spelling there.
        same_name(&path, &key.to_string(), &membership.service)
            .map_err(|_| InvalidField::new(&path, "it is not of the form namespace/name"))?;
        ascending(&path, read.last_key_value().map(|(key, _)| key), &key)?;
        let ports = workload_ports(membership.ports).map_err(|invalid| invalid.within(&outer))?;
        read.insert(key, ports);
    }
    Ok(read)
}

/// Order is preference, so it is kept; a repeat, or an address that nobody can be reached at, is refused.
fn addresses(addresses: &[Bytes]) -> Result<Vec<IpAddr>, InvalidField> {
    let mut read: Vec<IpAddr> = Vec::with_capacity(addresses.len());
    for (i, octets) in addresses.iter().enumerate() {
        let path = format!("addresses[{i}]");
        let address = one_address(&path, octets)?;
        if read.contains(&address) {
            return Err(InvalidField::new(path, format!("{address} is there twice")));
        }
        read.push(address);
    }
    Ok(read)
}

/// The address of one host.
pub(super) fn one_address(path: &str, octets: &[u8]) -> Result<IpAddr, InvalidField> {
    let address = if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        IpAddr::from(v4)
    } else if let Ok(v6) = <[u8; 16]>::try_from(octets) {
        IpAddr::from(v6)
    } else {
        let reason = format!("it has {} bytes; an address has 4 or 16", octets.len());
        return Err(InvalidField::new(path, reason));
    };
    // A connection to 0.0.0.0 or :: reaches the caller's own host.
    if address.is_unspecified() || address.is_multicast() {
        return Err(InvalidField::new(path, format!("{address} is not the address of one host")));
    }
    Ok(address)
}

pub(super) fn octets(address: IpAddr) -> Bytes {
    match address {
        IpAddr::V4(v4) => Bytes::copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => Bytes::copy_from_slice(&v6.octets()),
    }
}

fn health(value: i32) -> Result<Health, InvalidField> {
    Ok(match wire::Health::try_from(value) {
        Ok(wire::Health::Unknown) => Health::Unknown,
        Ok(wire::Health::Healthy) => Health::Healthy,
        Ok(wire::Health::Draining) => Health::Draining,
        Ok(wire::Health::Unhealthy) => Health::Unhealthy,
        Err(_) => {
            return Err(InvalidField::new("health", format!("value {value} is not known to this version")));
        }
    })
}

fn write_health(health: Health) -> wire::Health {
    match health {
        Health::Unknown => wire::Health::Unknown,
        Health::Healthy => wire::Health::Healthy,
        Health::Draining => wire::Health::Draining,
        Health::Unhealthy => wire::Health::Unhealthy,
    }
}

/// The labels that proxies use, in telemetry.
const TRAVELLING: [&str; 2] = ["app", "version"];
