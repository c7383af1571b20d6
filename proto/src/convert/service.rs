//! `weft.mesh.v1.Service` and the model's [`Service`].

use std::collections::BTreeSet;

use bytes::Bytes;
use weft_model::{Prefer, Service, ServiceKey};

use super::field::{InvalidField, InvalidResource, labels, message, parse, same_name, write_labels};
use super::port::{service_ports, write_service_ports};
use crate::mesh::v1 as wire;

impl From<&Service> for wire::Service {
    fn from(service: &Service) -> Self {
        Self {
            namespace: service.key.namespace.as_str().to_owned(),
            name: service.key.name.as_str().to_owned(),
            ports: write_service_ports(&service.ports),
            labels: write_labels(&service.labels),
            prefer: match service.prefer {
                None => wire::Prefer::Unsaid,
                Some(Prefer::Zone) => wire::Prefer::Zone,
                Some(Prefer::Node) => wire::Prefer::Node,
                Some(Prefer::NodeOnly) => wire::Prefer::NodeOnly,
            }
            .into(),
        }
    }
}

/// Reads the service that came under the resource name `name`.
///
/// # Errors
/// On anything that is not understood in full.
pub fn service(name: &str, encoded: Bytes) -> Result<Service, InvalidResource> {
    read(name, message(name, encoded)?).map_err(|invalid| invalid.of(name))
}

fn read(name: &str, wire: wire::Service) -> Result<Service, InvalidField> {
    let key = ServiceKey::new(parse("namespace", &wire.namespace)?, parse("name", &wire.name)?);
    same_name("name", name, &key.to_string())?;
    let ports = service_ports(wire.ports)?;
    // The list is sorted by name first, so that the same name twice is side by side.
    for (i, pair) in ports.windows(2).enumerate() {
        if let [before, after] = pair
            && before.name.is_some()
            && before.name == after.name
        {
            return Err(InvalidField::new(format!("ports[{}].name", i + 1), "the name is used twice"));
        }
    }
    // Virtual addresses are resources of their own.
    let prefer = prefer(wire.prefer)?;
    Ok(Service { key, ports, labels: labels(wire.labels)?, addresses: BTreeSet::new(), prefer })
}

fn prefer(value: i32) -> Result<Option<Prefer>, InvalidField> {
    Ok(match wire::Prefer::try_from(value) {
        Ok(wire::Prefer::Unsaid) => None,
        Ok(wire::Prefer::Zone) => Some(Prefer::Zone),
        Ok(wire::Prefer::Node) => Some(Prefer::Node),
        Ok(wire::Prefer::NodeOnly) => Some(Prefer::NodeOnly),
        Err(_) => {
            return Err(InvalidField::new("prefer", format!("value {value} is not known to this version")));
        }
    })
}
