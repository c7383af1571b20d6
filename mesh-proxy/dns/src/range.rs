//! The addresses that stand for services: a block of IPv4, by default one that nobody has.
//!
//! IPv4 alone: it is what every host can route to its own proxy, also where the network behind it is IPv6. The block's first and
//! last address are left out, since some programs take them for the network and for everybody.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use weft_model::Cidr;

/// A block of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VirtualRange {
    network: Ipv4Addr,
    prefix: u8,
}

/// Why a text is not a range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a range of virtual addresses: expected a block of IPv4 from /8 to /30, as in \"240.240.0.0/16\""
)]
pub struct InvalidRange(String);

impl VirtualRange {
    /// Whether `ip` is in the block.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => {
                u32::from(ip) >> (32 - self.prefix) == u32::from(self.network) >> (32 - self.prefix)
            }
            IpAddr::V6(_) => false,
        }
    }

    /// How many services find an address.
    pub fn size(&self) -> u32 {
        (1 << (32 - self.prefix)) - 2
    }

    /// The address of this number, below [`Self::size`]; numbers beyond start anew.
    pub(crate) fn address(&self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) + 1 + number % self.size())
    }
}

impl Default for VirtualRange {
    /// A part of class E: reserved, so that no network has it, and routed by Linux as any other address.
    fn default() -> Self {
        Self { network: Ipv4Addr::new(240, 240, 0, 0), prefix: 16 }
    }
}

impl FromStr for VirtualRange {
    type Err = InvalidRange;
    fn from_str(text: &str) -> Result<Self, InvalidRange> {
        let invalid = || InvalidRange(text.to_owned());
        let cidr: Cidr = text.parse().map_err(|_| invalid())?;
        let IpAddr::V4(address) = cidr.address else { return Err(invalid()) };
        if !(8..=30).contains(&cidr.prefix) {
            return Err(invalid());
        }
        let network = Ipv4Addr::from(u32::from(address) >> (32 - cidr.prefix) << (32 - cidr.prefix));
        Ok(Self { network, prefix: cidr.prefix })
    }
}

impl fmt::Display for VirtualRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl TryFrom<String> for VirtualRange {
    type Error = InvalidRange;
    fn try_from(text: String) -> Result<Self, InvalidRange> {
        text.parse()
    }
}

impl From<VirtualRange> for String {
    fn from(range: VirtualRange) -> String {
        range.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_all_of_its_block_and_gives_neither_its_first_nor_its_last_address() {
        let range: VirtualRange = "10.9.8.4/30".parse().unwrap();
        assert_eq!(
            (range.size(), range.address(0), range.address(1)),
            (2, [10, 9, 8, 5].into(), [10, 9, 8, 6].into())
        );
        for (last, inside) in [(3, false), (4, true), (7, true), (8, false)] {
            assert_eq!(range.contains([10, 9, 8, last].into()), inside, "{last}");
        }
        assert!(!range.contains("::10.9.8.5".parse().unwrap()));
        assert_eq!(VirtualRange::default().to_string(), "240.240.0.0/16");
        assert_eq!(VirtualRange::default().size(), 65534);
    }

    #[test]
    fn what_is_no_range_is_refused_with_an_example() {
        for wrong in ["", "240.240.0.0", "10.0.0.0/7", "10.0.0.0/31", "fd00::/16", "10.0.0.0/x"] {
            let error = wrong.parse::<VirtualRange>().unwrap_err().to_string();
            assert!(error.contains("240.240.0.0/16"), "{error}");
        }
    }
}
