//! Rules and sets of ours in the kernel's form.

use super::constant::{
    META_IIFNAME, META_L4PROTO, META_NFPROTO, META_OIFNAME, META_SKGID, META_SKUID, NETWORK_HEADER,
    TRANSPORT_HEADER,
};
use super::expression::Expression;
use crate::ruleset::{
    Action, Addresses, Elements, Family, Hook, Interface, Match, Ports, Protocol, Rule, Test,
};

/// IANA protocol numbers.
const TCP: u8 = 6;
const UDP: u8 = 17;
/// RFC 9293, section 3.1: where the flags are; FIN, SYN, RST and ACK among them; SYN alone.
const FLAGS_OFFSET: u32 = 13;
const FIN_SYN_RST_ACK: u8 = 0x17;
const SYN: u8 = 0x02;
/// `IFNAMSIZ`: names of interfaces are compared whole.
const INTERFACE_NAME: usize = 16;

/// The expressions of a rule.
pub(super) fn rule(rule: &Rule) -> Vec<Expression> {
    let mut expressions = Vec::new();
    for condition in &rule.matches {
        for step in condition_steps(condition) {
            // The protocol is asked once, however many of its fields are looked at.
            let known = matches!(step.as_slice(), [Expression::Meta { key: META_L4PROTO }, asked]
                if expressions.contains(asked));
            if !known {
                expressions.extend(step);
            }
        }
    }
    match rule.action {
        Action::Accept => expressions.push(Expression::Accept),
        Action::NoTrack => expressions.push(Expression::NoTrack),
        Action::Redirect(port) => {
            expressions.extend([Expression::Immediate(port.to_be_bytes().to_vec()), Expression::Redirect]);
        }
    }
    expressions
}

/// Each load with what is asked of it.
fn condition_steps(condition: &Match) -> Vec<Vec<Expression>> {
    match condition {
        Match::Family(family) => vec![nfproto(*family)],
        // Ids of users and groups are in the machine's own byte order.
        Match::User(user) => vec![meta(META_SKUID, is(&user.to_ne_bytes()))],
        Match::Group(group) => vec![meta(META_SKGID, is(&group.to_ne_bytes()))],
        Match::UserIn(set) => vec![meta(META_SKUID, lookup(set, false))],
        Match::Outgoing(interface) => vec![meta(META_OIFNAME, loopback(*interface))],
        Match::Incoming(interface) => vec![meta(META_IIFNAME, loopback(*interface))],
        Match::Port(ports) => port_steps(ports),
        Match::Destination(addresses) => destination_steps(addresses),
        Match::Opening => vec![
            meta(META_L4PROTO, is(&[TCP])),
            vec![
                Expression::Payload { base: TRANSPORT_HEADER, offset: FLAGS_OFFSET, length: 1 },
                Expression::Mask(vec![FIN_SYN_RST_ACK]),
                is(&[SYN]),
            ],
        ],
    }
}

fn port_steps(ports: &Ports) -> Vec<Vec<Expression>> {
    let protocol = match ports.protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
    };
    let asked = match ports.test {
        Test::Is(port) => is(&port.to_be_bytes()),
        Test::In(set) => lookup(set, false),
        Test::NotIn(set) => lookup(set, true),
    };
    // In TCP and in UDP the source's port comes first.
    let offset = if ports.source { 0 } else { 2 };
    let load = Expression::Payload { base: TRANSPORT_HEADER, offset, length: 2 };
    vec![meta(META_L4PROTO, is(&[protocol])), vec![load, asked]]
}

fn destination_steps(addresses: &Addresses) -> Vec<Vec<Expression>> {
    // RFC 791, section 3.1, and RFC 8200, section 3: where the destination is.
    let (offset, length) = match addresses.family {
        Family::Ipv4 => (16, 4),
        Family::Ipv6 => (24, 16),
    };
    let load = Expression::Payload { base: NETWORK_HEADER, offset, length };
    vec![nfproto(addresses.family), vec![load, lookup(addresses.set, addresses.outside)]]
}

fn nfproto(family: Family) -> Vec<Expression> {
    // `NFPROTO_IPV4`, `NFPROTO_IPV6`.
    let number = match family {
        Family::Ipv4 => 2,
        Family::Ipv6 => 10,
    };
    meta(META_NFPROTO, is(&[number]))
}

fn meta(key: u32, asked: Expression) -> Vec<Expression> {
    vec![Expression::Meta { key }, asked]
}

fn is(value: &[u8]) -> Expression {
    Expression::Compare { equal: true, value: value.to_vec() }
}

fn lookup(set: &str, inverted: bool) -> Expression {
    Expression::Lookup { set: set.to_owned(), inverted }
}

fn loopback(interface: Interface) -> Expression {
    let mut value = b"lo".to_vec();
    value.resize(INTERFACE_NAME, 0);
    Expression::Compare { equal: interface == Interface::Loopback, value }
}

/// `NF_INET_PRE_ROUTING`, `NF_INET_LOCAL_OUT`.
pub(super) fn hook(hook: Hook) -> u32 {
    match hook {
        Hook::Prerouting => 0,
        Hook::Output => 3,
    }
}

/// A set's type: the number by which `nft` knows how to show it, the length of a key, whether it holds intervals,
/// and whether its keys are in the machine's own byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SetType {
    pub(super) key_type: u32,
    pub(super) key_length: u32,
    pub(super) interval: bool,
    pub(super) own_order: bool,
}

/// The type of a set of these.
pub(super) fn set_type(elements: &Elements) -> SetType {
    // nftables, include/datatype.h: TYPE_INET_SERVICE, TYPE_UID, TYPE_IPADDR, TYPE_IP6ADDR.
    let (key_type, key_length, interval, own_order) = match elements {
        Elements::Ports(_) => (13, 2, false, false),
        Elements::Users(_) => (24, 4, false, true),
        Elements::Addresses(Family::Ipv4, _) => (7, 4, true, false),
        Elements::Addresses(Family::Ipv6, _) => (8, 16, true, false),
    };
    SetType { key_type, key_length, interval, own_order }
}

/// An element as the kernel holds it: of an interval, its first key, and its end, which is the first key beyond it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) value: Vec<u8>,
    pub(super) end: bool,
}

/// The keys of a set.
pub(super) fn keys(elements: &Elements) -> Vec<Key> {
    let plain = |value: Vec<u8>| Key { value, end: false };
    match elements {
        Elements::Ports(ports) => ports.iter().map(|port| plain(port.to_be_bytes().to_vec())).collect(),
        Elements::Users(users) => users.iter().map(|user| plain(user.to_ne_bytes().to_vec())).collect(),
        Elements::Addresses(family, ranges) => {
            let length = address_length(*family);
            let bytes = |number: u128| number.to_be_bytes().into_iter().skip(16 - length).collect();
            let limit = if length == 16 { u128::MAX } else { u128::from(u32::MAX) };
            let both = |range: &std::ops::RangeInclusive<u128>| {
                // A range up to the last address has no end.
                let end = (*range.end() < limit).then(|| Key { value: bytes(*range.end() + 1), end: true });
                [Some(plain(bytes(*range.start()))), end]
            };
            ranges.iter().flat_map(both).flatten().collect()
        }
    }
}

/// What these keys mean in a set of the same type as `like`; `None` where they can't be of that type.
pub(super) fn elements(like: &Elements, keys: &[Key]) -> Option<Elements> {
    match like {
        Elements::Ports(_) => {
            let port = |key: &Key| Some(u16::from_be_bytes(key.value.as_slice().try_into().ok()?));
            keys.iter().map(port).collect::<Option<_>>().map(Elements::Ports)
        }
        Elements::Users(_) => {
            let user = |key: &Key| Some(u32::from_ne_bytes(key.value.as_slice().try_into().ok()?));
            keys.iter().map(user).collect::<Option<_>>().map(Elements::Users)
        }
        Elements::Addresses(family, _) => {
            ranges(*family, keys).map(|ranges| Elements::Addresses(*family, ranges))
        }
    }
}

fn ranges(family: Family, keys: &[Key]) -> Option<Vec<std::ops::RangeInclusive<u128>>> {
    let length = address_length(family);
    let limit = if length == 16 { u128::MAX } else { u128::from(u32::MAX) };
    let mut sorted = Vec::with_capacity(keys.len());
    for key in keys {
        if key.value.len() != length {
            return None;
        }
        let number = key.value.iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
        sorted.push((number, key.end));
    }
    // Of an end and a start at one place, the end comes first: the ranges touch.
    sorted.sort_unstable_by_key(|(number, end)| (*number, !end));
    let (mut ranges, mut open) = (Vec::new(), None);
    for (number, end) in sorted {
        match (open, end) {
            (None, false) => open = Some(number),
            (Some(first), true) => {
                ranges.push(first..=number - 1);
                open = None;
            }
            // `nft` marks the space before the first range by an end that ends nothing.
            (None, true) => {}
            (Some(_), false) => return None,
        }
    }
    ranges.extend(open.map(|first| first..=limit));
    Some(ranges)
}

fn address_length(family: Family) -> usize {
    match family {
        Family::Ipv4 => 4,
        Family::Ipv6 => 16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RedirectSettings;
    use crate::netlink::attribute::Reader;

    /// Everything that can be written, in one table.
    fn everything() -> crate::Ruleset {
        let json = include_str!("../../tests/golden/everything.json");
        RedirectSettings::parse(json).unwrap().ruleset()
    }

    #[test]
    fn an_expression_is_decoded_to_what_was_encoded() {
        let mut seen = 0;
        for expression in everything().chains.iter().flat_map(|chain| &chain.rules).flat_map(rule) {
            let bytes = expression.encode().into_bytes();
            assert_eq!(Expression::decode(&bytes).unwrap(), expression);
            assert!(Reader::new(&bytes).get(1).unwrap().is_some());
            seen += 1;
        }
        assert!(seen > 40);
    }

    #[test]
    fn keys_are_read_back_to_the_elements_in_any_order() {
        for set in everything().sets {
            let mut keys = keys(&set.elements);
            keys.reverse();
            assert_eq!(elements(&set.elements, &keys).as_ref(), Some(&set.elements), "{}", set.name);
        }
    }

    #[test]
    fn a_range_up_to_the_last_address_has_no_end() {
        let all = Elements::Addresses(Family::Ipv6, vec![0..=u128::MAX]);
        assert_eq!(keys(&all), [Key { value: vec![0; 16], end: false }]);
        assert_eq!(elements(&all, &keys(&all)), Some(all));
    }

    #[test]
    fn keys_of_another_type_mean_nothing() {
        let ports = Elements::Ports([1].into());
        assert_eq!(elements(&ports, &[Key { value: vec![0; 4], end: false }]), None);
        let addresses = Elements::Addresses(Family::Ipv4, Vec::new());
        let start = |last| Key { value: vec![10, 0, 0, last], end: false };
        assert_eq!(elements(&addresses, &[start(1), start(2)]), None);
        assert_eq!(elements(&addresses, &[Key { value: vec![0; 2], end: false }]), None);
    }

    #[test]
    fn the_protocol_is_asked_once_a_rule() {
        let rules = everything().chains.into_iter().flat_map(|chain| chain.rules);
        for compiled in rules.map(|r| rule(&r)) {
            let asked = compiled.iter().filter(|e| **e == Expression::Meta { key: META_L4PROTO }).count();
            assert!(asked <= 1, "{compiled:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_keys_of_the_kernel_make_it_panic(
            keys in proptest::collection::vec((proptest::collection::vec(0_u8..3, 3..5), proptest::bool::ANY), 0..8),
        ) {
            let keys: Vec<_> = keys.into_iter().map(|(value, end)| Key { value, end }).collect();
            for like in everything().sets {
                let _ = elements(&like.elements, &keys);
            }
        }

        #[test]
        fn no_bytes_of_the_kernel_make_it_panic(
            at in 0_usize..1000,
            byte in proptest::num::u8::ANY,
            cut in 0_usize..100,
        ) {
            for expression in everything().chains.iter().flat_map(|chain| &chain.rules).flat_map(rule) {
                let mut bytes = expression.encode().into_bytes();
                let at = at % bytes.len();
                bytes[at] = byte;
                bytes.truncate(bytes.len().saturating_sub(cut % 20));
                let _ = Expression::decode(&bytes);
            }
        }
    }
}
