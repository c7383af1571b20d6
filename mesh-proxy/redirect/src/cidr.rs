//! A block of addresses, and what many of them cover together.
//!
//! The kernel's interval sets take only ranges that neither overlap nor repeat, and give them back in their own order:
//! so [`merged`] makes one sorted form of whatever was written, and two lists that mean the same are the same.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A block of addresses: `10.0.0.0/8`, `fd00::/8`; a bare address is a block of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    address: IpAddr,
    length: u8,
}

/// Why a text is not a block of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a CIDR: {reason}")]
pub struct InvalidCidr {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Cidr {
    /// The first and the last address as numbers, each family in its own.
    pub(crate) fn bounds(self) -> (u128, u128) {
        let (first, bits) = match self.address {
            IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
            IpAddr::V6(address) => (address.to_bits(), 128),
        };
        (first, first | host_bits(bits, self.length))
    }

    /// The first and the last address.
    #[cfg(feature = "apply")]
    pub(crate) fn some_addresses(self) -> [IpAddr; 2] {
        let (first, last) = self.bounds();
        [first, last].map(|number| address_of(number, self.is_ipv4()))
    }

    /// Whether it is of IPv4.
    pub fn is_ipv4(self) -> bool {
        self.address.is_ipv4()
    }
}

/// The bits that a prefix of this length leaves to the host.
fn host_bits(bits: u8, length: u8) -> u128 {
    match bits - length {
        128 => u128::MAX,
        free => (1 << free) - 1,
    }
}

impl FromStr for Cidr {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Self, InvalidCidr> {
        let fail = |reason: String| InvalidCidr { text: text.to_owned(), reason };
        let (address, length) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
        let address: IpAddr = address.parse().map_err(|_| fail(format!("{address:?} is no IP address")))?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => bits,
            Some(length) => length
                .parse()
                .ok()
                .filter(|length| *length <= bits)
                .ok_or_else(|| fail(format!("the prefix length is a number from 0 to {bits}")))?,
        };
        let (_, last) = Self { address, length }.bounds();
        let number = match address {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        // `last` has every host bit set, so without them it is the block's first address.
        let first = last & !host_bits(bits, length);
        if first != number {
            let first = address_of(first, address.is_ipv4());
            return Err(fail(format!("it has host bits set; the block is {first}/{length}")));
        }
        Ok(Self { address, length })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl TryFrom<String> for Cidr {
    type Error = InvalidCidr;
    fn try_from(text: String) -> Result<Self, InvalidCidr> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

fn address_of(number: u128, ipv4: bool) -> IpAddr {
    // The low 32 bits are the whole of an IPv4 address.
    if ipv4 { Ipv4Addr::from_bits(number as u32).into() } else { Ipv6Addr::from_bits(number).into() }
}

/// What these ranges cover: sorted, with no two that touch.
pub(crate) fn merged(ranges: impl IntoIterator<Item = (u128, u128)>) -> Vec<RangeInclusive<u128>> {
    let mut sorted: Vec<_> = ranges.into_iter().collect();
    sorted.sort_unstable();
    let mut merged: Vec<RangeInclusive<u128>> = Vec::new();
    for (first, last) in sorted {
        match merged.last_mut() {
            Some(open) if first <= open.end().saturating_add(1) => {
                *open = *open.start()..=last.max(*open.end());
            }
            _ => merged.push(first..=last),
        }
    }
    merged
}

/// A range as `nft` writes it: a block, an address, or both ends.
pub(crate) fn range_text(range: &RangeInclusive<u128>, ipv4: bool) -> String {
    let (first, last, bits) = (*range.start(), *range.end(), if ipv4 { 32 } else { 128 });
    let at = |number| address_of(number, ipv4);
    if first == last {
        return at(first).to_string();
    }
    let differing = first ^ last;
    let is_block = (differing & differing.wrapping_add(1)) == 0 && first & differing == 0;
    if is_block {
        return format!("{}/{}", at(first), bits - differing.count_ones());
    }
    format!("{}-{}", at(first), at(last))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(cidrs: &[&str]) -> Vec<String> {
        let ipv4 = cidrs[0].parse::<Cidr>().unwrap().is_ipv4();
        let ranges = cidrs.iter().map(|text| text.parse::<Cidr>().unwrap().bounds());
        merged(ranges).iter().map(|range| range_text(range, ipv4)).collect()
    }

    #[test]
    fn a_bare_address_is_a_block_of_one() {
        assert_eq!("10.1.2.3".parse::<Cidr>().unwrap().to_string(), "10.1.2.3/32");
        assert_eq!("fd00::1".parse::<Cidr>().unwrap().to_string(), "fd00::1/128");
    }

    #[test]
    fn what_is_no_block_is_refused_with_the_reason() {
        let why = |text: &str| text.parse::<Cidr>().unwrap_err().to_string();
        assert_eq!(
            why("10.1.2.3/8"),
            "\"10.1.2.3/8\" is not a CIDR: it has host bits set; the block is 10.0.0.0/8"
        );
        assert_eq!(
            why("10.0.0.0/33"),
            "\"10.0.0.0/33\" is not a CIDR: the prefix length is a number from 0 to 32"
        );
        assert_eq!(why("::/129"), "\"::/129\" is not a CIDR: the prefix length is a number from 0 to 128");
        assert_eq!(why("host/8"), "\"host/8\" is not a CIDR: \"host\" is no IP address");
        assert!(why("fd00::1/0").ends_with("the block is ::/0"));
        assert!("".parse::<Cidr>().is_err() && "10.0.0.0/".parse::<Cidr>().is_err());
    }

    #[test]
    fn blocks_that_overlap_or_touch_become_one() {
        assert_eq!(texts(&["10.0.0.0/8", "10.1.0.0/16", "10.0.0.0/8"]), ["10.0.0.0/8"]);
        assert_eq!(texts(&["10.0.0.128/25", "10.0.0.0/25"]), ["10.0.0.0/24"]);
        assert_eq!(texts(&["10.0.0.3", "10.0.0.1", "10.0.0.2"]), ["10.0.0.1-10.0.0.3"]);
        assert_eq!(texts(&["192.168.0.0/16", "10.0.0.0/8"]), ["10.0.0.0/8", "192.168.0.0/16"]);
    }

    #[test]
    fn the_whole_of_a_family_is_one_block() {
        assert_eq!(texts(&["0.0.0.0/0", "255.255.255.255"]), ["0.0.0.0/0"]);
        assert_eq!(texts(&["::/0", "ffff::/16"]), ["::/0"]);
        assert_eq!(texts(&["255.255.255.255"]), ["255.255.255.255"]);
    }

    proptest! {
        #[test]
        fn an_address_is_covered_before_and_after_merging_alike(
            blocks in prop::collection::vec((any::<u8>(), 24u8..=32), 0..12),
            address in any::<u8>(),
        ) {
            let bounds: Vec<_> = blocks.iter().map(|(last, length)| {
                let first = u128::from(*last) & !host_bits(32, *length);
                (first, first | host_bits(32, *length))
            }).collect();
            let address = u128::from(address);
            let before = bounds.iter().any(|(first, last)| (*first..=*last).contains(&address));
            let after = merged(bounds).iter().any(|range| range.contains(&address));
            prop_assert_eq!(before, after);
        }
    }
}
