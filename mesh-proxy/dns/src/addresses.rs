//! Which address stands for which service, for as long as the proxy lives.
//!
//! An address is never taken back and never given to another: applications keep what a resolver once told them, and would call
//! the wrong service. Where a service's address is looked for first follows from its name, so that it is mostly the same in
//! every proxy, and again after a lost file. The value is cheap to copy; whoever holds it decides when it counts.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use weft_model::ServiceKey;

use crate::VirtualRange;

/// The addresses that are given.
#[derive(Debug, Clone, Default)]
pub struct VirtualAddresses {
    range: VirtualRange,
    limit: usize,
    by_service: imbl::HashMap<ServiceKey, Ipv4Addr>,
    by_address: imbl::HashMap<Ipv4Addr, ServiceKey>,
}

/// There is no address for one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("all virtual addresses are given")]
pub struct Full;

/// Why a file's text is not used.
#[derive(Debug, thiserror::Error)]
pub enum Damaged {
    /// It is no JSON of this shape.
    #[error("{0}")]
    Syntax(#[from] serde_json::Error),
    /// It is of another build.
    #[error("it has version {0}; this build reads version {VERSION}")]
    Version(u32),
    /// Two services have one address.
    #[error("{0} and {1} have the same address")]
    Twice(ServiceKey, ServiceKey),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    addresses: BTreeMap<ServiceKey, Ipv4Addr>,
}

const VERSION: u32 = 1;

impl VirtualAddresses {
    /// None given yet; at most `limit` will be.
    pub fn new(range: VirtualRange, limit: usize) -> Self {
        Self { range, limit, by_service: imbl::HashMap::new(), by_address: imbl::HashMap::new() }
    }

    /// What [`Self::to_text`] wrote. Addresses outside the range, which is a setting, are forgotten; those beyond the limit stay.
    ///
    /// # Errors
    /// With what is wrong with the text: it is used as a whole or not at all.
    pub fn from_text(text: &str, range: VirtualRange, limit: usize) -> Result<Self, Damaged> {
        let file: File = serde_json::from_str(text)?;
        if file.version != VERSION {
            return Err(Damaged::Version(file.version));
        }
        let mut all = Self::new(range, limit);
        for (service, address) in file.addresses {
            if !range.contains(address.into()) {
                continue;
            }
            if let Some(other) = all.by_address.get(&address) {
                return Err(Damaged::Twice(other.clone(), service));
            }
            all.insert(service, address);
        }
        Ok(all)
    }

    /// For a file.
    pub fn to_text(&self) -> String {
        let addresses = self.iter().map(|(service, address)| (service.clone(), address)).collect();
        // Names and addresses always have a JSON form.
        serde_json::to_string_pretty(&File { version: VERSION, addresses }).unwrap_or_default()
    }

    /// The service's address, where it has one.
    pub fn address(&self, service: &ServiceKey) -> Option<Ipv4Addr> {
        self.by_service.get(service).copied()
    }

    /// The service that the address stands for.
    pub fn service(&self, address: IpAddr) -> Option<&ServiceKey> {
        match address {
            IpAddr::V4(address) => self.by_address.get(&address),
            IpAddr::V6(_) => None,
        }
    }

    /// Whether the address is one of the range, given or not.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.range.contains(address)
    }

    /// All that are given, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&ServiceKey, Ipv4Addr)> {
        self.by_service.iter().map(|(service, address)| (service, *address))
    }

    /// These and one for a service that has none.
    ///
    /// # Errors
    /// When all are given.
    pub fn with(&self, service: &ServiceKey) -> Result<(Self, Ipv4Addr), Full> {
        if self.by_service.len() >= self.limit {
            return Err(Full);
        }
        let start = number_of(service);
        let mut places = (0..self.range.size()).map(|step| self.range.address(start + step));
        let free = places.find(|address| !self.by_address.contains_key(address)).ok_or(Full)?;
        let mut next = self.clone();
        next.insert(service.clone(), free);
        Ok((next, free))
    }

    fn insert(&mut self, service: ServiceKey, address: Ipv4Addr) {
        self.by_address.insert(address, service.clone());
        self.by_service.insert(service, address);
    }
}

/// A number that every build and every machine gives to this name. Of 31 bits, so that steps from there fit in 32.
fn number_of(service: &ServiceKey) -> u32 {
    let digest = Sha256::digest(service.to_string());
    let first = digest.iter().take(4).fold(0u32, |number, byte| (number << 8) | u32::from(*byte));
    first >> 1
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn key(name: &str) -> ServiceKey {
        name.parse().unwrap()
    }

    fn small(limit: usize) -> VirtualAddresses {
        VirtualAddresses::new("10.0.0.0/29".parse().unwrap(), limit)
    }

    #[test]
    fn a_services_address_is_its_own_and_leads_back_to_it() {
        let (all, api) = small(6).with(&key("api")).unwrap();
        let (all, web) = all.with(&key("web")).unwrap();
        assert_ne!(api, web);
        assert_eq!((all.address(&key("api")), all.service(api.into())), (Some(api), Some(&key("api"))));
        assert_eq!(all.service("::1".parse().unwrap()), None);
    }

    #[test]
    fn where_all_are_given_the_next_one_gets_none_and_the_others_keep_theirs() {
        for (limit, fits) in [(6, 6), (100, 6), (2, 2)] {
            let mut all = small(limit);
            for n in 0..fits {
                all = all.with(&key(&format!("s{n}"))).unwrap().0;
            }
            assert_eq!(all.with(&key("late")).unwrap_err(), Full, "{limit}");
            assert_eq!(all.iter().count(), fits);
        }
    }

    #[test]
    fn a_name_finds_the_same_address_in_every_proxy() {
        let all = VirtualAddresses::new(VirtualRange::default(), 10);
        assert_eq!(all.with(&key("default/billing")).unwrap().1, Ipv4Addr::new(240, 240, 39, 207));
    }

    #[test]
    fn what_is_written_is_read_back_but_for_what_left_the_range() {
        let (all, api) = small(6).with(&key("shop/api")).unwrap();
        let again = VirtualAddresses::from_text(&all.to_text(), "10.0.0.0/29".parse().unwrap(), 6).unwrap();
        assert_eq!(again.address(&key("shop/api")), Some(api));
        let moved = VirtualAddresses::from_text(&all.to_text(), VirtualRange::default(), 6).unwrap();
        assert_eq!(moved.iter().count(), 0);
    }

    #[test]
    fn a_damaged_text_is_refused_whole_with_the_reason() {
        for (text, reason) in [
            ("", "EOF"),
            (r#"{"version":2,"addresses":{}}"#, "version 2"),
            (r#"{"version":1,"addresses":{"a/b":"10.0.0.1","a/c":"10.0.0.1"}}"#, "a/b and a/c have the same"),
            (r#"{"version":1,"addresses":{"a b":"10.0.0.1"}}"#, "service name"),
            (r#"{"version":1,"addresses":{"a":"10.0.0.1"},"more":1}"#, "unknown field"),
        ] {
            let error = VirtualAddresses::from_text(text, "10.0.0.0/29".parse().unwrap(), 6).unwrap_err();
            assert!(error.to_string().contains(reason), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_asked_and_restarted_an_address_never_changes_its_service(
            steps in prop::collection::vec((0..20u8, any::<bool>()), 1..60),
        ) {
            let range: VirtualRange = "10.0.0.0/28".parse().unwrap();
            let mut all = VirtualAddresses::new(range, 100);
            let mut told: HashMap<Ipv4Addr, ServiceKey> = HashMap::new();
            for (name, restart) in steps {
                let service = key(&format!("s{name}"));
                let address = all.address(&service);
                if let Some(address) = address.or_else(|| all.with(&service).ok().map(|(next, address)| {
                    all = next;
                    address
                })) {
                    prop_assert!(range.contains(address.into()));
                    prop_assert_eq!(told.entry(address).or_insert_with(|| service.clone()), &service);
                }
                if restart {
                    all = VirtualAddresses::from_text(&all.to_text(), range, 100).unwrap();
                }
                for (address, service) in &told {
                    prop_assert_eq!(all.service((*address).into()), Some(service));
                }
            }
        }
    }
}
