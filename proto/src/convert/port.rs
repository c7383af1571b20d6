//! Ports and protocols.

use weft_model::{PortName, Protocol, ServicePort, WorkloadPort};

use super::field::{InvalidField, ascending, parse};
use crate::mesh::v1 as wire;

/// Reads the ports of a service; number 0 means "no number of its own".
pub(super) fn service_ports(ports: Vec<wire::Port>) -> Result<Vec<ServicePort>, InvalidField> {
    read(ports, |port| {
        let (name, protocol) = (name(&port)?, protocol(port.protocol)?);
        Ok(ServicePort { name, number: number("number", port.number)?, protocol })
    })
}

/// Reads the ports of a workload; each has a number.
pub(super) fn workload_ports(ports: Vec<wire::Port>) -> Result<Vec<WorkloadPort>, InvalidField> {
    read(ports, |port| {
        if port.number == 0 {
            return Err(InvalidField::new("number", "0 is not a port that a workload can listen on"));
        }
        let (name, protocol) = (name(&port)?, protocol(port.protocol)?);
        Ok(WorkloadPort { name, number: number("number", port.number)?, protocol })
    })
}

/// Reads one port number; 0 is the caller's business.
pub(super) fn number(path: &str, number: u32) -> Result<u16, InvalidField> {
    u16::try_from(number).map_err(|_| InvalidField::new(path, format!("{number} is above 65535")))
}

pub(super) fn write_service_ports(ports: &[ServicePort]) -> Vec<wire::Port> {
    sorted(ports).map(|port| write(port.name.as_ref(), port.number, port.protocol)).collect()
}

pub(super) fn write_workload_ports(ports: &[WorkloadPort]) -> Vec<wire::Port> {
    sorted(ports).map(|port| write(port.name.as_ref(), port.number, port.protocol)).collect()
}

fn read<T: Ord>(
    ports: Vec<wire::Port>,
    port: impl Fn(wire::Port) -> Result<T, InvalidField>,
) -> Result<Vec<T>, InvalidField> {
    let mut read = Vec::with_capacity(ports.len());
    for (i, wire) in ports.into_iter().enumerate() {
        let path = format!("ports[{i}]");
        let next = port(wire).map_err(|invalid| invalid.within(&path))?;
        ascending(&path, read.last(), &next)?;
        read.push(next);
    }
    Ok(read)
}

fn name(port: &wire::Port) -> Result<Option<PortName>, InvalidField> {
    if port.name.is_empty() { Ok(None) } else { parse("name", &port.name).map(Some) }
}

fn protocol(value: i32) -> Result<Protocol, InvalidField> {
    Ok(match wire::Protocol::try_from(value) {
        Ok(wire::Protocol::Detect) => Protocol::Detect,
        Ok(wire::Protocol::Http1) => Protocol::Http1,
        Ok(wire::Protocol::Http2) => Protocol::Http2,
        Ok(wire::Protocol::Grpc) => Protocol::Grpc,
        Ok(wire::Protocol::Tcp) => Protocol::Tcp,
        Ok(wire::Protocol::Tls) => Protocol::Tls,
        Err(_) => {
            return Err(InvalidField::new("protocol", format!("value {value} is not known to this version")));
        }
    })
}

fn write(name: Option<&PortName>, number: u16, protocol: Protocol) -> wire::Port {
    let protocol = match protocol {
        Protocol::Detect => wire::Protocol::Detect,
        Protocol::Http1 => wire::Protocol::Http1,
        Protocol::Http2 => wire::Protocol::Http2,
        Protocol::Grpc => wire::Protocol::Grpc,
        Protocol::Tcp => wire::Protocol::Tcp,
        Protocol::Tls => wire::Protocol::Tls,
    };
    wire::Port {
        name: name.map_or_else(String::new, |name| name.as_str().to_owned()),
        number: u32::from(number),
        protocol: protocol.into(),
    }
}

fn sorted<T: Ord>(ports: &[T]) -> impl Iterator<Item = &T> {
    let mut sorted: Vec<&T> = ports.iter().collect();
    sorted.sort_unstable();
    sorted.dedup();
    sorted.into_iter()
}
