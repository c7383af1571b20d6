//! Whose the wanted addresses are.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use weft_model::NetworkAddress;
use weft_proto::discovery::Resource;
use weft_proto::{Address, InvalidResource, ResourceType};

use super::Update;
use super::holdings::Held;

/// The addresses that a client wants to know about.
#[derive(Debug, Default)]
pub(super) struct Addresses(BTreeMap<NetworkAddress, Asked>);

/// What is known of a wanted address.
#[derive(Debug)]
enum Asked {
    /// No answer yet.
    Unanswered,
    /// Nobody has it.
    Free,
    /// Somebody has it.
    Owned(Held<Arc<Address>>),
}

impl Addresses {
    /// Returns whether it is new.
    pub(super) fn want(&mut self, address: NetworkAddress) -> bool {
        let new = !self.0.contains_key(&address);
        self.0.entry(address).or_insert(Asked::Unanswered);
        new
    }

    /// Returns whether it was wanted.
    pub(super) fn forget(&mut self, address: &NetworkAddress) -> bool {
        self.0.remove(address).is_some()
    }

    pub(super) fn wanted(&self) -> impl Iterator<Item = &NetworkAddress> {
        self.0.keys()
    }

    /// Reads a resource and holds it; the address where something changed. On an error what is held stays.
    pub(super) fn put(
        &mut self,
        name: &str,
        version: String,
        encoded: Bytes,
    ) -> Result<Option<NetworkAddress>, InvalidResource> {
        let value = Arc::new(weft_proto::address(name, encoded.clone())?);
        let address = value.address.clone();
        // Given up while the answer was under way: nobody's any more.
        let Some(asked) = self.0.get_mut(&address) else { return Ok(None) };
        let changed = !matches!(asked, Asked::Owned(before) if before.value == value);
        *asked = Asked::Owned(Held { version, encoded, value });
        Ok(changed.then_some(address))
    }

    /// Nobody has it any more. Told once: each new stream says it again.
    pub(super) fn remove(&mut self, name: &str) -> Option<NetworkAddress> {
        let address: NetworkAddress = name.parse().ok()?;
        let asked = self.0.get_mut(&address)?;
        let before = std::mem::replace(asked, Asked::Free);
        (!matches!(before, Asked::Free)).then_some(address)
    }

    /// What the proxy is told of an address; nothing of one that is not wanted or not answered yet.
    pub(super) fn update(&self, address: &NetworkAddress) -> Option<Update> {
        match self.0.get(address)? {
            Asked::Unanswered => None,
            Asked::Free => Some(Update::AddressFree(address.clone())),
            Asked::Owned(held) => Some(Update::AddressOwned(held.value.clone())),
        }
    }

    /// What is held, encoded.
    pub(super) fn held(&self) -> impl Iterator<Item = Resource> + '_ {
        self.0.iter().filter_map(|(address, asked)| match asked {
            Asked::Owned(held) => Some(held.to_wire(ResourceType::Address, &address.to_string())),
            Asked::Unanswered | Asked::Free => None,
        })
    }
}
