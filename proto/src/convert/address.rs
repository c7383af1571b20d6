//! `weft.mesh.v1.Address` and the model's [`AddressOwner`].

use std::sync::Arc;

use bytes::Bytes;
use weft_model::{AddressOwner, NetworkAddress, ServiceKey};

use super::field::{InvalidField, InvalidResource, ascending, message, parse, same_name};
use super::workload::{octets, one_address, read_workload};
use crate::mesh::v1 as wire;

/// An address and who has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub address: NetworkAddress,
    /// Who has it.
    pub owner: AddressOwner,
}

impl From<&Address> for wire::Address {
    fn from(Address { address, owner }: &Address) -> Self {
        let (service, workloads) = match owner {
            AddressOwner::Service(key) => (key.to_string(), Vec::new()),
            AddressOwner::Workloads(all) => {
                (String::new(), all.iter().map(|one| wire::Workload::from(one.as_ref())).collect())
            }
        };
        Self { network: address.network.as_str().to_owned(), ip: octets(address.ip), service, workloads }
    }
}

/// Reads the address that came under the resource name `name`.
///
/// # Errors
/// On anything that is not understood in full.
pub fn address(name: &str, encoded: Bytes) -> Result<Address, InvalidResource> {
    read(name, message(name, encoded)?).map_err(|invalid| invalid.of(name))
}

fn read(name: &str, wire: wire::Address) -> Result<Address, InvalidField> {
    let network = parse("network", &wire.network)?;
    let ip = one_address("ip", &wire.ip)?;
    let address = NetworkAddress { network, ip };
    same_name("ip", name, &address.to_string())?;
    let owner = match (wire.service.as_str(), wire.workloads) {
        ("", workloads) if workloads.is_empty() => {
            return Err(InvalidField::new("service", "neither a service nor a workload has the address"));
        }
        ("", workloads) => AddressOwner::Workloads(owners(workloads, &address)?),
        (service, workloads) if workloads.is_empty() => {
            let key: ServiceKey = parse("service", service)?;
            same_name("service", &key.to_string(), service)
                .map_err(|_| InvalidField::new("service", "it is not of the form namespace/name"))?;
            AddressOwner::Service(key)
        }
        _ => return Err(InvalidField::new("workloads", "a virtual address is no workload's own")),
    };
    Ok(Address { address, owner })
}

fn owners(
    workloads: Vec<wire::Workload>,
    address: &NetworkAddress,
) -> Result<Vec<Arc<weft_model::Workload>>, InvalidField> {
    let mut read: Vec<Arc<weft_model::Workload>> = Vec::with_capacity(workloads.len());
    for (i, wire) in workloads.into_iter().enumerate() {
        let outer = format!("workloads[{i}]");
        let id = wire.id.clone();
        let workload = read_workload(&id, wire).map_err(|invalid| invalid.within(&outer))?;
        ascending(&format!("{outer}.id"), read.last().map(|before| &before.id), &workload.id)?;
        if !workload.network_addresses().any(|own| own == *address) {
            return Err(InvalidField::new(format!("{outer}.addresses"), "the address is not among them"));
        }
        read.push(Arc::new(workload));
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    fn owned(by: &[&str]) -> wire::Address {
        let workload = |id: &&str| wire::Workload {
            id: (*id).to_owned(),
            addresses: vec![vec![10, 0, 0, 7].into()],
            network: "west".to_owned(),
            ..Default::default()
        };
        wire::Address {
            network: "west".to_owned(),
            ip: vec![10, 0, 0, 7].into(),
            service: String::new(),
            workloads: by.iter().map(workload).collect(),
        }
    }

    fn refused(wire: &wire::Address) -> String {
        let invalid = address("west/10.0.0.7", wire.encode_to_vec().into()).unwrap_err();
        format!("{}: {}", invalid.field_path, invalid.reason)
    }

    #[test]
    fn an_address_survives_the_wire_whoever_has_it() {
        let of_service = wire::Address { service: "shop/api".to_owned(), ..owned(&[]) };
        for wire in [of_service, owned(&["vm/a"]), owned(&["vm/a", "vm/b"])] {
            let read = address("west/10.0.0.7", wire.encode_to_vec().into()).unwrap();
            assert_eq!(wire::Address::from(&read), wire);
        }
    }

    #[test]
    fn an_address_of_nobody_of_two_kinds_or_of_another_is_refused_with_its_path() {
        assert!(refused(&owned(&[])).starts_with("service: neither"));
        let both = wire::Address { service: "shop/api".to_owned(), ..owned(&["vm/a"]) };
        assert!(refused(&both).starts_with("workloads: "));
        assert!(refused(&owned(&["vm/b", "vm/a"])).starts_with("workloads[1].id: the list is not sorted"));
        assert!(refused(&wire::Address { ip: vec![10, 0].into(), ..owned(&["vm/a"]) }).starts_with("ip: "));
        let mut elsewhere = owned(&["vm/a"]);
        elsewhere.workloads[0].network = String::new();
        assert!(refused(&elsewhere).starts_with("workloads[0].addresses: the address is not among them"));
        let mut unread = owned(&["vm/a"]);
        unread.workloads[0].health = 99;
        assert!(refused(&unread).starts_with("workloads[0].health: "));
        let short = wire::Address { service: "api".to_owned(), ..owned(&[]) };
        assert!(refused(&short).starts_with("service: it is not of the form"));
        let named = address("default/10.0.0.7", owned(&["vm/a"]).encode_to_vec().into());
        assert_eq!(named.unwrap_err().field_path, "ip");
    }
}
