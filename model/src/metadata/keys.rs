//! The table of keys: name, syntax of the value, default, meaning, and the function that reads it.
//!
//! The table is what documentation is made of and what parsing goes by, so the two cannot differ.

use super::Metadata;
use super::values::*;
use crate::name::PortName;

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
    /// Whom it is for.
    pub part: KeyPart,
    read: Reader,
}

/// Whom a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyPart {
    /// The workload's callers: registries put it into the workload's entry.
    Endpoint,
    /// The workload's own proxy: whoever sets it up reads it. Registries check it and do nothing with it.
    Proxy,
}

impl KeyPart {
    /// As the documentation names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Endpoint => "callers",
            Self::Proxy => "own proxy",
        }
    }
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
        part: KeyPart::Endpoint,
        read: |metadata, _, value| set(&mut metadata.protocol, protocol(value)),
    },
    KeyDoc {
        key: "protocol-PORTNAME",
        value: "as for protocol",
        default: "protocol",
        meaning: "What is spoken on the port of that name.",
        example: "http1",
        part: KeyPart::Endpoint,
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
        part: KeyPart::Endpoint,
        read: |metadata, _, value| set(&mut metadata.identity, identity(value)),
    },
    KeyDoc {
        key: "tunnel",
        value: "a port number from 1 to 65535, or none",
        default: "none",
        meaning: "The port on which the workload's proxy takes mTLS; none: it has no proxy and is outside the mesh.",
        example: "15008",
        part: KeyPart::Endpoint,
        read: |metadata, _, value| set(&mut metadata.tunnel, tunnel(value)),
    },
    KeyDoc {
        key: "service",
        value: "a service name",
        default: "the name that the platform gives the service",
        meaning: "The service that the workload belongs to.",
        example: "api",
        part: KeyPart::Endpoint,
        read: |metadata, _, value| set(&mut metadata.service, parse(value, "a service name")),
    },
    KeyDoc {
        key: "namespace",
        value: "a namespace",
        default: "the platform's namespace, else default",
        meaning: "The mesh namespace of the service and of an identity that is a service account.",
        example: "shop",
        part: KeyPart::Endpoint,
        read: |metadata, _, value| set(&mut metadata.namespace, parse(value, "a namespace")),
    },
    KeyDoc {
        key: "weight",
        value: "a whole number from 0 to 1000",
        default: "100",
        meaning: "The workload's share of new requests, relative to the service's others; 0 takes none.",
        example: "50",
        part: KeyPart::Endpoint,
        read: |metadata, _, value| set(&mut metadata.weight, weight(value)),
    },
    KeyDoc {
        key: "locality",
        value: "region, region/zone or region/zone/subzone",
        default: "what the platform knows, else unknown",
        meaning: "Where the workload runs, for those who prefer near instances.",
        example: "eu-west/a/rack-7",
        part: KeyPart::Endpoint,
        read: |metadata, _, value| set(&mut metadata.locality, locality(value)),
    },
    KeyDoc {
        key: "node",
        value: "names with / between them",
        default: "what the platform knows, else unknown",
        meaning: "The machine that the workload runs on, for services that prefer or demand the caller's own; compared whole.",
        example: "dc1/host-7",
        part: KeyPart::Endpoint,
        read: |metadata, _, value| set(&mut metadata.node, parse(value, "names with / between them")),
    },
    KeyDoc {
        key: "network",
        value: "a network name",
        default: "default",
        meaning: "The network in which the workload's addresses are valid.",
        example: "dc-west",
        part: KeyPart::Endpoint,
        read: |metadata, _, value| set(&mut metadata.network, parse(value, "a network name")),
    },
    KeyDoc {
        key: "version",
        value: "1 to 253 bytes without control characters",
        default: "none",
        meaning: "The version of the software, as a label of the workload and in telemetry.",
        example: "v2",
        part: KeyPart::Endpoint,
        read: |metadata, _, value| set(&mut metadata.version, label(value)),
    },
    KeyDoc {
        key: "app",
        value: "1 to 253 bytes without control characters",
        default: "none",
        meaning: "The name of the software, as a label of the workload and in telemetry.",
        example: "checkout",
        part: KeyPart::Endpoint,
        read: |metadata, _, value| set(&mut metadata.app, label(value)),
    },
    KeyDoc {
        key: "port",
        value: "a port name",
        default: "the platform's name of the port, else none",
        meaning: "The name of the registered port, where the platform's ports have no names (Consul).",
        example: "http",
        part: KeyPart::Endpoint,
        read: |metadata, _, value| set(&mut metadata.port, parse(value, "a port name")),
    },
    KeyDoc {
        key: "inject",
        value: "true or false",
        default: "the namespace's label (Kubernetes)",
        meaning: "Whether the workload gets a proxy.",
        example: "true",
        part: KeyPart::Proxy,
        read: |metadata, _, value| set(&mut metadata.proxy.inject, yes_or_no(value)),
    },
    KeyDoc {
        key: "capture",
        value: "true or false",
        default: "true",
        meaning: "Whether all traffic goes through the proxy; false: only that of upstreams and to the tunnel.",
        example: "false",
        part: KeyPart::Proxy,
        read: |metadata, _, value| set(&mut metadata.proxy.capture, yes_or_no(value)),
    },
    KeyDoc {
        key: "dns",
        value: "true or false",
        default: "what the mesh's settings say",
        meaning: "Whether the proxy answers the workload's DNS queries: names of the mesh itself, all others by the host's resolvers.",
        example: "false",
        part: KeyPart::Proxy,
        read: |metadata, _, value| set(&mut metadata.proxy.dns, yes_or_no(value)),
    },
    KeyDoc {
        key: "upstreams",
        value: "[NAMESPACE/]SERVICE[:PORT]=[127.0.0.1:]PORT, several with commas",
        default: "none",
        meaning: "Services that the workload calls at a local address; without NAMESPACE those of its own.",
        example: "shop/api:http=9000",
        part: KeyPart::Proxy,
        read: |metadata, _, value| upstreams(value).map(|read| metadata.proxy.upstreams = read),
    },
    KeyDoc {
        key: "skip-inbound-ports",
        value: "port numbers with commas",
        default: "none",
        meaning: "Ports of the workload at which nothing is captured.",
        example: "9100,9101",
        part: KeyPart::Proxy,
        read: |metadata, _, value| ports(value).map(|read| metadata.proxy.skip_inbound_ports = read),
    },
    KeyDoc {
        key: "skip-outbound-ports",
        value: "port numbers with commas",
        default: "none",
        meaning: "Ports to which calls are not captured.",
        example: "25",
        part: KeyPart::Proxy,
        read: |metadata, _, value| ports(value).map(|read| metadata.proxy.skip_outbound_ports = read),
    },
    KeyDoc {
        key: "skip-outbound-cidrs",
        value: "address ranges with commas",
        default: "none",
        meaning: "Addresses to which calls are not captured.",
        example: "169.254.169.254/32",
        part: KeyPart::Proxy,
        read: |metadata, _, value| cidrs(value).map(|read| metadata.proxy.skip_outbound_cidrs = read),
    },
    KeyDoc {
        key: "proxy-cpu",
        value: "100m, 0.5 or 2: from 1m to 256",
        default: "what the mesh's settings say",
        meaning: "The processor share that is reserved for the proxy.",
        example: "100m",
        part: KeyPart::Proxy,
        read: |metadata, _, value| set(&mut metadata.proxy.cpu, cpu(value)),
    },
    KeyDoc {
        key: "proxy-memory",
        value: "64Mi or 1Gi: at least 32Mi",
        default: "what the mesh's settings say",
        meaning: "The memory that is reserved for the proxy.",
        example: "64Mi",
        part: KeyPart::Proxy,
        read: |metadata, _, value| set(&mut metadata.proxy.memory, memory(value)),
    },
    KeyDoc {
        key: "proxy-cpu-limit",
        value: "as for proxy-cpu",
        default: "what the mesh's settings say",
        meaning: "The processor share that the proxy may not exceed.",
        example: "2",
        part: KeyPart::Proxy,
        read: |metadata, _, value| set(&mut metadata.proxy.cpu_limit, cpu(value)),
    },
    KeyDoc {
        key: "proxy-memory-limit",
        value: "as for proxy-memory",
        default: "what the mesh's settings say",
        meaning: "The memory that the proxy may not exceed; it sheds load from 80 % on.",
        example: "256Mi",
        part: KeyPart::Proxy,
        read: |metadata, _, value| set(&mut metadata.proxy.memory_limit, memory(value)),
    },
    KeyDoc {
        key: "log-level",
        value: "off, error, warn, info, debug or trace, also of modules",
        default: "what the mesh's settings say",
        meaning: "The proxy's log filter.",
        example: "info,weft_proxy::identity=debug",
        part: KeyPart::Proxy,
        read: |metadata, _, value| set(&mut metadata.proxy.log_level, log_level(value)),
    },
    KeyDoc {
        key: "drain",
        value: "a duration from 1s to 1h",
        default: "what the mesh's settings say",
        meaning: "How long what is in progress may take when the workload stops; then it is cut.",
        example: "1m",
        part: KeyPart::Proxy,
        read: |metadata, _, value| set(&mut metadata.proxy.drain, duration(value)),
    },
    KeyDoc {
        key: "hold",
        value: "true or false",
        default: "true",
        meaning: "Whether the application starts only when its proxy is ready.",
        example: "false",
        part: KeyPart::Proxy,
        read: |metadata, _, value| set(&mut metadata.proxy.hold, yes_or_no(value)),
    },
    KeyDoc {
        key: "inbound-plaintext",
        value: "permissive or strict",
        default: "what the mesh's settings say",
        meaning: "Whether callers outside the mesh are let in, in plaintext and without an identity.",
        example: "strict",
        part: KeyPart::Proxy,
        read: |metadata, _, value| set(&mut metadata.proxy.inbound_plaintext, inbound_plaintext(value)),
    },
    KeyDoc {
        key: "unknown",
        value: "pass or refuse",
        default: "what the mesh's settings say",
        meaning: "What happens to captured calls to addresses that the mesh does not know.",
        example: "refuse",
        part: KeyPart::Proxy,
        read: |metadata, _, value| set(&mut metadata.proxy.unknown, unknown(value)),
    },
    KeyDoc {
        key: "status",
        value: "JSON, written by the injector",
        default: "none",
        meaning: "What was added to the workload; nobody else writes it.",
        example: r#"{"version":"0.1.0"}"#,
        part: KeyPart::Proxy,
        read: |metadata, _, value| {
            metadata.proxy.injected = !value.is_empty();
            Ok(())
        },
    },
    KeyDoc {
        key: "redirect",
        value: "JSON, written by the injector",
        default: "none",
        meaning: "What of the workload's traffic is captured; nobody else writes it.",
        example: r#"{"version":1}"#,
        part: KeyPart::Proxy,
        read: |metadata, _, value| {
            metadata.proxy.redirected = !value.is_empty();
            Ok(())
        },
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
pub(super) fn fixed_part(doc: &KeyDoc) -> Option<&'static str> {
    doc.key.find(|c: char| c.is_ascii_uppercase()).and_then(|start| doc.key.get(..start))
}
