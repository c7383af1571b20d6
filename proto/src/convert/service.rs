//! `weft.mesh.v1.Service` and the model's [`Service`].

use std::collections::BTreeSet;

use bytes::Bytes;
use weft_model::{Service, ServiceKey};

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
    Ok(Service { key, ports, labels: labels(wire.labels)?, addresses: BTreeSet::new() })
}
