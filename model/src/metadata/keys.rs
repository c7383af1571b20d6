//! The table of keys: name, syntax of the value, default, meaning, and the function that reads it.
//!
//! The table is what documentation is made of and what parsing goes by, so the two cannot differ.

use std::num::NonZeroU16;
use std::str::FromStr;

use super::{Identity, Metadata};
use crate::name::{InvalidName, PortName};
use crate::service::Protocol;
use crate::spiffe::SpiffeId;
use crate::workload::{Locality, Tunnel};

/// One key, as users read about it.
#[derive(Debug, Clone, Copy)]
pub struct KeyDoc {
    /// The key without any platform's prefix. A part in capitals stands for a name that the user puts there.
    pub key: &'static str,
    /// What a value looks like.
    pub value: &'static str,
    /// What holds where the key is missing.
    pub default: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// A value that is right.
    pub example: &'static str,
    read: Reader,
}

/// Puts a value into its place. The second argument is what stands in the place of the key's part in capitals; an
/// error says what was expected.
type Reader = fn(&mut Metadata, &str, &str) -> Result<(), String>;

/// Every key there is, in the order in which they are documented.
pub const KEYS: &[KeyDoc] = &[
    KeyDoc {
        key: "protocol",
        value: "http1, http2, grpc, tcp, tls or detect",
        default: "what the platform knows, else detect",
        meaning: "What is spoken on all ports of the workload.",
        example: "grpc",
        read: |metadata, _, value| set(&mut metadata.protocol, protocol(value)),
    },
    KeyDoc {
        key: "protocol-PORTNAME",
        value: "as for protocol",
        default: "protocol",
        meaning: "What is spoken on the port of that name.",
        example: "http1",
        read: |metadata, port, value| {
            let port: PortName = parse(port, "a port name behind \"protocol-\"")?;
            metadata.port_protocols.insert(port, protocol(value)?);
            Ok(())
        },
    },
    KeyDoc {
        key: "identity",
        value: "a service account, or a whole SPIFFE id with a path",
        default: "the service's name as a service account",
        meaning: "The identity that the workload's proxy proves; callers accept no other.",
        example: "billing",
        read: |metadata, _, value| set(&mut metadata.identity, identity(value)),
    },
    KeyDoc {
        key: "tunnel",
        value: "a port number from 1 to 65535, or none",
        default: "none",
        meaning: "The port on which the workload's proxy takes mTLS; none: it has no proxy and is outside the mesh.",
        example: "15008",
        read: |metadata, _, value| set(&mut metadata.tunnel, tunnel(value)),
    },
    KeyDoc {
        key: "service",
        value: "a service name",
        default: "the name that the platform gives the service",
        meaning: "The service that the workload belongs to.",
        example: "api",
        read: |metadata, _, value| set(&mut metadata.service, parse(value, "a service name")),
    },
    KeyDoc {
        key: "namespace",
        value: "a namespace",
        default: "the platform's namespace, else default",
        meaning: "The mesh namespace of the service and of an identity that is a service account.",
        example: "shop",
        read: |metadata, _, value| set(&mut metadata.namespace, parse(value, "a namespace")),
    },
    KeyDoc {
        key: "weight",
        value: "a whole number from 0 to 1000",
        default: "100",
        meaning: "The workload's share of new requests, relative to the service's others; 0 takes none.",
        example: "50",
        read: |metadata, _, value| set(&mut metadata.weight, weight(value)),
    },
    KeyDoc {
        key: "locality",
        value: "region, region/zone or region/zone/subzone",
        default: "what the platform knows, else unknown",
        meaning: "Where the workload runs, for those who prefer near instances.",
        example: "eu-west/a/rack-7",
        read: |metadata, _, value| set(&mut metadata.locality, locality(value)),
    },
    KeyDoc {
        key: "network",
        value: "a network name",
        default: "default",
        meaning: "The network in which the workload's addresses are valid.",
        example: "dc-west",
        read: |metadata, _, value| set(&mut metadata.network, parse(value, "a network name")),
    },
    KeyDoc {
        key: "version",
        value: "1 to 253 bytes without control characters",
        default: "none",
        meaning: "The version of the software, as a label of the workload and in telemetry.",
        example: "v2",
        read: |metadata, _, value| set(&mut metadata.version, label(value)),
    },
    KeyDoc {
        key: "app",
        value: "1 to 253 bytes without control characters",
        default: "none",
        meaning: "The name of the software, as a label of the workload and in telemetry.",
        example: "checkout",
        read: |metadata, _, value| set(&mut metadata.app, label(value)),
    },
    KeyDoc {
        key: "port",
        value: "a port name",
        default: "the platform's name of the port, else none",
        meaning: "The name of the registered port, where the platform's ports have no names (Consul).",
        example: "http",
        read: |metadata, _, value| set(&mut metadata.port, parse(value, "a port name")),
    },
];

/// Why a pair is not taken.
#[derive(Debug)]
pub(super) enum Rejected {
    UnknownKey,
    /// With what was expected.
    BadValue(String),
}

/// Reads one pair into its place.
pub(super) fn read(metadata: &mut Metadata, key: &str, value: &str) -> Result<(), Rejected> {
    let (doc, named) = find(key).ok_or(Rejected::UnknownKey)?;
    (doc.read)(metadata, named, value).map_err(Rejected::BadValue)
}

/// Whether there is such a key.
pub(super) fn is_known(key: &str) -> bool {
    find(key).is_some()
}

/// The key's row, and what stands for the part in capitals.
fn find(key: &str) -> Option<(&'static KeyDoc, &str)> {
    KEYS.iter().find_map(|doc| match fixed_part(doc) {
        Some(start) => key.strip_prefix(start).map(|named| (doc, named)),
        None => (doc.key == key).then_some((doc, "")),
    })
}

/// `protocol-` of `protocol-PORTNAME`; `None` for a key that is all fixed.
fn fixed_part(doc: &KeyDoc) -> Option<&'static str> {
    doc.key.find(|c: char| c.is_ascii_uppercase()).and_then(|start| doc.key.get(..start))
}

/// A known key that looks like a slip of this one.
pub(super) fn nearest(key: &str) -> Option<String> {
    // Longer ones are no slip of any of ours, and would cost time.
    if key.len() > 64 {
        return None;
    }
    let plain = KEYS
        .iter()
        .filter(|doc| fixed_part(doc).is_none())
        .map(|doc| (distance(key, doc.key), doc.key.to_owned()));
    let named = KEYS.iter().filter_map(fixed_part).filter_map(|start| {
        // A slip in the fixed part: look at what is before the first separator.
        let at = key.find(['-', '_', '.'])?;
        let name = key.get(at + 1..).filter(|name| !name.is_empty())?;
        let slips = distance(key.get(..=at)?, start);
        Some((slips, format!("{start}{name}")))
    });
    // Two slips: one more turns `app` into almost anything.
    let near = plain.chain(named).filter(|(slips, known)| *slips <= 2 && *slips * 2 < known.len());
    near.min().map(|(_, known)| known)
}

/// How many characters must be put in, taken out or replaced to make one text the other; case is no difference.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().map(|c| c.to_ascii_lowercase()).collect();
    // The row of the usual table for the characters of `a` so far.
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, of_a) in a.chars().map(|c| c.to_ascii_lowercase()).enumerate() {
        let mut next = vec![i + 1];
        let mut left = i + 1;
        for (of_b, pair) in b.iter().zip(row.windows(2)) {
            let (diagonal, above) = (pair.first().copied().unwrap_or(0), pair.last().copied().unwrap_or(0));
            left = (diagonal + usize::from(of_a != *of_b)).min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

fn set<T>(place: &mut Option<T>, value: Result<T, String>) -> Result<(), String> {
    *place = Some(value?);
    Ok(())
}

fn parse<T: FromStr<Err = InvalidName>>(value: &str, expected: &str) -> Result<T, String> {
    value.parse().map_err(|invalid: InvalidName| format!("{expected}, but {}", invalid.reason))
}

fn protocol(value: &str) -> Result<Protocol, String> {
    value.parse().map_err(|_| "http1, http2, grpc, tcp, tls or detect".to_owned())
}

fn identity(value: &str) -> Result<Identity, String> {
    let expected = "a service account or a whole SPIFFE id with a path";
    if !value.starts_with("spiffe:") {
        return parse(value, expected).map(Identity::Account);
    }
    match value.parse::<SpiffeId>() {
        // The id of a trust domain itself names no workload.
        Ok(id) if id.path().is_empty() => Err(format!("{expected}, but the path is missing")),
        Ok(id) => Ok(Identity::Whole(id)),
        Err(invalid) => Err(format!("{expected}, but {}", invalid.reason)),
    }
}

fn tunnel(value: &str) -> Result<Tunnel, String> {
    match (value, value.parse::<NonZeroU16>()) {
        ("none", _) => Ok(Tunnel::None),
        (_, Ok(port)) => Ok(Tunnel::Port(port.get())),
        _ => Err("a port number from 1 to 65535, or none".to_owned()),
    }
}

fn weight(value: &str) -> Result<u32, String> {
    let weight = value.parse().ok().filter(|weight| *weight <= 1000);
    weight.ok_or_else(|| "a whole number from 0 to 1000".to_owned())
}

fn locality(value: &str) -> Result<Locality, String> {
    let expected = "region, region/zone or region/zone/subzone";
    // Empty text is a legal locality and means unknown, but nobody writes a key to say nothing.
    if value.is_empty() { Err(expected.to_owned()) } else { parse(value, expected) }
}

/// A label's value: short and without control characters, since it becomes a metric's label.
fn label(value: &str) -> Result<String, String> {
    let legal = (1..=253).contains(&value.len()) && !value.chars().any(char::is_control);
    legal.then(|| value.to_owned()).ok_or_else(|| "1 to 253 bytes without control characters".to_owned())
}
