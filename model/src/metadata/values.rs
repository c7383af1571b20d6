//! How each kind of value is read; an error says what was expected.
//!
//! One syntax for all platforms: no value needs a character that an annotation, Consul's `Meta` or Nomad's `meta` can't hold.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::str::FromStr;
use std::time::Duration;

use super::Identity;
use super::proxy::{Cidr, Cpu, InboundPlaintext, Memory, UnknownDestination, Upstream};
use crate::name::{InvalidName, PortName};
use crate::service::Protocol;
use crate::spiffe::SpiffeId;
use crate::workload::{Locality, Tunnel};

pub(super) fn set<T>(place: &mut Option<T>, value: Result<T, String>) -> Result<(), String> {
    *place = Some(value?);
    Ok(())
}

pub(super) fn parse<T: FromStr<Err = InvalidName>>(value: &str, expected: &str) -> Result<T, String> {
    value.parse().map_err(|invalid: InvalidName| format!("{expected}, but {}", invalid.reason))
}

pub(super) fn protocol(value: &str) -> Result<Protocol, String> {
    value.parse().map_err(|_| "http1, http2, grpc, tcp, tls or detect".to_owned())
}

pub(super) fn identity(value: &str) -> Result<Identity, String> {
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

pub(super) fn tunnel(value: &str) -> Result<Tunnel, String> {
    match (value, value.parse::<NonZeroU16>()) {
        ("none", _) => Ok(Tunnel::None),
        (_, Ok(port)) => Ok(Tunnel::Port(port.get())),
        _ => Err("a port number from 1 to 65535, or none".to_owned()),
    }
}

pub(super) fn weight(value: &str) -> Result<u32, String> {
    let weight = value.parse().ok().filter(|weight| *weight <= 1000);
    weight.ok_or_else(|| "a whole number from 0 to 1000".to_owned())
}

pub(super) fn locality(value: &str) -> Result<Locality, String> {
    let expected = "region, region/zone or region/zone/subzone";
    // Empty text is a legal locality and means unknown, but nobody writes a key to say nothing.
    if value.is_empty() { Err(expected.to_owned()) } else { parse(value, expected) }
}

/// A label's value: short and without control characters, since it becomes a metric's label.
pub(super) fn label(value: &str) -> Result<String, String> {
    let legal = (1..=253).contains(&value.len()) && !value.chars().any(char::is_control);
    legal.then(|| value.to_owned()).ok_or_else(|| "1 to 253 bytes without control characters".to_owned())
}

pub(super) fn yes_or_no(value: &str) -> Result<bool, String> {
    value.parse().map_err(|_| "true or false".to_owned())
}

pub(super) fn inbound_plaintext(value: &str) -> Result<InboundPlaintext, String> {
    match value {
        "permissive" => Ok(InboundPlaintext::Permissive),
        "strict" => Ok(InboundPlaintext::Strict),
        _ => Err("permissive or strict".to_owned()),
    }
}

pub(super) fn unknown(value: &str) -> Result<UnknownDestination, String> {
    match value {
        "pass" => Ok(UnknownDestination::Pass),
        "refuse" => Ok(UnknownDestination::Refuse),
        _ => Err("pass or refuse".to_owned()),
    }
}

/// What stands between the commas. More than a thousand would be a mistake, and a proxy has no room for them.
fn items<'a, T>(value: &'a str, read: impl Fn(&'a str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let items: Vec<T> = value.split(',').map(|item| read(item.trim())).collect::<Result<_, _>>()?;
    if items.len() > MOST_ITEMS { Err(format!("at most {MOST_ITEMS} items")) } else { Ok(items) }
}

const MOST_ITEMS: usize = 1000;

pub(super) fn ports(value: &str) -> Result<BTreeSet<u16>, String> {
    let port = |item: &str| item.parse::<NonZeroU16>().map(NonZeroU16::get).map_err(|_| item.to_owned());
    let ports = items(value, port).map_err(|item| {
        format!("port numbers from 1 to 65535 with commas between them, but one is {:?}", short(&item))
    });
    ports.map(BTreeSet::from_iter)
}

pub(super) fn cidrs(value: &str) -> Result<BTreeSet<Cidr>, String> {
    let cidrs = items(value, cidr).map_err(|why| format!("{why}; several with commas between them"));
    cidrs.map(BTreeSet::from_iter)
}

/// An address alone is the range of that one address.
pub(super) fn cidr(value: &str) -> Result<Cidr, String> {
    let fail =
        |but: &str| format!("a range of addresses as 10.0.0.0/8 or fd00::/8, but {:?} {but}", short(value));
    let (address, prefix) = value.split_once('/').map_or((value, None), |(a, p)| (a, Some(p)));
    let address: IpAddr = address.parse().map_err(|_| fail("has no IP address"))?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => bits,
        Some(prefix) => {
            prefix.parse().ok().filter(|prefix| *prefix <= bits).ok_or_else(|| fail("has no such length"))?
        }
    };
    // Shifting by all bits is not defined; a range of everything has none to look at otherwise.
    let rest = match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits().checked_shl(prefix.into()).unwrap_or(0)),
        IpAddr::V6(v6) => v6.to_bits().checked_shl(prefix.into()).unwrap_or(0),
    };
    if rest == 0 { Ok(Cidr { address, prefix }) } else { Err(fail("has bits set behind its length")) }
}

/// `100m`, `0.5`, `2`: up to 256 processors.
pub(super) fn cpu(value: &str) -> Result<Cpu, String> {
    let expected = || format!("processors as 100m, 0.5 or 2, from 1m to 256, but it is {:?}", short(value));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = |text: &str| text.parse::<u32>().ok().filter(|_| digits(text));
    let thousandths = match (value.strip_suffix('m'), value.split_once('.')) {
        (Some(thousandths), _) => number(thousandths),
        (None, Some((whole, part))) if digits(part) && part.len() <= 3 => {
            let part = number(&format!("{part:0<3}"));
            number(whole)
                .and_then(|whole| whole.checked_mul(1000))
                .zip(part)
                .and_then(|(a, b)| a.checked_add(b))
        }
        (None, Some(_)) => None,
        (None, None) => number(value).and_then(|whole| whole.checked_mul(1000)),
    };
    thousandths.filter(|cpu| (1..=256_000).contains(cpu)).map(Cpu).ok_or_else(expected)
}

/// Binary units as Kubernetes writes them and as the rest of the mesh's settings do, and Kubernetes' decimal ones.
pub(super) fn memory(value: &str) -> Result<Memory, String> {
    let units: [(&str, u64); 8] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
    ];
    let number = value.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = value.get(number.len()..).and_then(|unit| units.iter().find(|(name, _)| *name == unit));
    let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let bytes = unit.filter(|_| plain).and_then(|(_, unit)| number.parse::<u64>().ok()?.checked_mul(*unit));
    // Below 32 MiB a proxy would shed load without having any.
    bytes
        .filter(|bytes| (32 << 20..=1 << 40).contains(bytes))
        .map(Memory)
        .ok_or_else(|| format!("a size as 64Mi or 1Gi, at least 32Mi, but it is {:?}", short(value)))
}

/// A filter of the proxy's log: a level, or levels of modules.
pub(super) fn log_level(value: &str) -> Result<String, String> {
    let level = |text: &str| ["off", "error", "warn", "info", "debug", "trace"].contains(&text);
    let module = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':'))
    };
    let legal = value.len() <= 1024
        && value.split(',').all(|part| match part.split_once('=') {
            Some((name, value)) => module(name) && level(value),
            None => level(part),
        });
    let expected =
        "off, error, warn, info, debug or trace, or that of modules too as info,weft_proxy::identity=debug";
    legal.then(|| value.to_owned()).ok_or_else(|| expected.to_owned())
}

/// A whole number with its unit, up to an hour.
pub(super) fn duration(value: &str) -> Result<Duration, String> {
    let number = value.trim_end_matches(|c: char| c.is_ascii_lowercase());
    let unit = match value.get(number.len()..) {
        Some("ms") => Some(1),
        Some("s") => Some(1000),
        Some("m") => Some(60_000),
        Some("h") => Some(3_600_000),
        _ => None,
    };
    let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let ms = unit.filter(|_| plain).and_then(|unit: u64| number.parse::<u64>().ok()?.checked_mul(unit));
    let expected = "a duration as 500ms, 30s or 5m, from 1s to 1h";
    ms.filter(|ms| (1000..=3_600_000).contains(ms))
        .map(Duration::from_millis)
        .ok_or_else(|| expected.to_owned())
}

/// `NAME[:PORT]=LISTEN` each; LISTEN is a port of 127.0.0.1, or an address of loopback with its port.
pub(super) fn upstreams(value: &str) -> Result<Vec<Upstream>, String> {
    let upstreams = items(value, upstream)?;
    let mut taken = BTreeSet::new();
    match upstreams.iter().find(|upstream| !taken.insert(upstream.listen)) {
        Some(twice) => {
            Err(format!("each service at an address of its own, but {} is there twice", twice.listen))
        }
        None => Ok(upstreams),
    }
}

fn upstream(item: &str) -> Result<Upstream, String> {
    let fail = |but: String| {
        format!(
            "[NAMESPACE/]SERVICE[:PORT]=[127.0.0.1:]PORT with commas between several, but {:?} {but}",
            short(item)
        )
    };
    let (target, listen) = item.split_once('=').ok_or_else(|| fail("has no =".to_owned()))?;
    let (service, port) = target.split_once(':').map_or((target, None), |(s, p)| (s, Some(p)));
    let (namespace, service) = service.split_once('/').map_or((None, service), |(n, s)| (Some(n), s));
    let name = |invalid: InvalidName| fail(format!("is not one: {invalid}"));
    Ok(Upstream {
        namespace: namespace.map(str::parse).transpose().map_err(name)?,
        service: service.parse().map_err(name)?,
        port: port.map(str::parse::<PortName>).transpose().map_err(name)?,
        listen: listen_address(listen).map_err(fail)?,
    })
}

fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let port = text.parse().ok().map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let address = port.or_else(|| text.parse().ok()).filter(|address| address.port() != 0);
    match address {
        Some(address) if address.ip().is_loopback() => Ok(address),
        Some(_) => {
            Err("does not listen on loopback: others would call with the workload's identity".to_owned())
        }
        None => Err("has no address to listen on".to_owned()),
    }
}

/// A part of a value that an error repeats: annotations may have 256 kB.
fn short(text: &str) -> String {
    super::shortened(text)
}
