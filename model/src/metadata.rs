//! What users write on their workloads: one table of keys with one meaning on every platform.
//!
//! Platforms allow different characters in a key, so each has its syntax; the part behind the prefix is the same
//! everywhere. Adapters hand over plain pairs and put what comes back into their entries.
//! A bad value never stops the reading: the user sees all problems of an object at once.

mod keys;
mod nearest;
mod proxy;
mod values;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use keys::{KEYS, KeyDoc, KeyPart};
pub use proxy::{Cidr, Cpu, InboundPlaintext, Memory, ProxyMetadata, UnknownDestination, Upstream};

use crate::name::{Namespace, Network, NodeName, PortName, ServiceName};
use crate::service::Protocol;
use crate::spiffe::{SpiffeId, TrustDomain};
use crate::workload::{Locality, Tunnel};

/// How a platform writes our keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeySyntax {
    /// `weft.dev/KEY`: Kubernetes annotations, Nomad `meta`.
    Slash,
    /// `weft-KEY`: Consul `Meta`, which allows letters, digits, `-` and `_` only.
    Dash,
    /// `KEY`: places that are all ours, as the file registry and the VM agent's settings.
    Bare,
}

impl KeySyntax {
    const ALL: [Self; 3] = [Self::Slash, Self::Dash, Self::Bare];

    /// The key as it is written on that platform.
    pub fn written(self, key: &str) -> String {
        format!("{}{key}", self.prefix())
    }

    /// Our key within a written one; `None` where the written one is not ours.
    pub fn key_of(self, written: &str) -> Option<&str> {
        written.strip_prefix(self.prefix())
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Slash => "weft.dev/",
            Self::Dash => "weft-",
            Self::Bare => "",
        }
    }
}

/// What a user wrote on one workload. `None` and no value where the user said nothing: what holds then is up to the
/// adapter, which may know it from the platform, and else is the default of the [table](KEYS).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    trust_domain: TrustDomain,
    default_namespace: Namespace,
    namespace: Option<Namespace>,
    service: Option<ServiceName>,
    port: Option<PortName>,
    protocol: Option<Protocol>,
    port_protocols: BTreeMap<PortName, Protocol>,
    identity: Option<Identity>,
    tunnel: Option<Tunnel>,
    weight: Option<u32>,
    locality: Option<Locality>,
    node: Option<NodeName>,
    network: Option<Network>,
    version: Option<String>,
    app: Option<String>,
    proxy: ProxyMetadata,
}

/// An identity as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Identity {
    /// A service account of the workload's namespace.
    Account(ServiceName),
    /// A whole id, which may be of another trust domain.
    Whole(SpiffeId),
}

impl Metadata {
    /// Reads the pairs that are ours in this syntax; under [`KeySyntax::Bare`] all are. What is not understood is
    /// left out and is among the problems, in the order of the pairs.
    pub fn parse<'a>(
        syntax: KeySyntax,
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
        trust_domain: &TrustDomain,
        default_namespace: &Namespace,
    ) -> (Metadata, Vec<MetadataProblem>) {
        let mut metadata = Self::empty(trust_domain.clone(), default_namespace.clone());
        let mut problems = Vec::new();
        for (written, value) in pairs {
            let Some(key) = syntax.key_of(written) else { continue };
            let (severity, expected) = match keys::read(&mut metadata, key, value) {
                Ok(()) => continue,
                Err(keys::Rejected::UnknownKey) => (Severity::Warning, unknown_key(syntax, key)),
                Err(keys::Rejected::BadValue(expected)) => (Severity::Error, expected),
            };
            problems.push(MetadataProblem {
                key: shortened(written),
                value: shortened(value),
                expected,
                severity,
            });
        }
        (metadata, problems)
    }

    fn empty(trust_domain: TrustDomain, default_namespace: Namespace) -> Self {
        Self {
            trust_domain,
            default_namespace,
            namespace: None,
            service: None,
            port: None,
            protocol: None,
            port_protocols: BTreeMap::new(),
            identity: None,
            tunnel: None,
            weight: None,
            locality: None,
            node: None,
            network: None,
            version: None,
            app: None,
            proxy: ProxyMetadata::default(),
        }
    }

    /// `protocol-PORTNAME` of this port, else `protocol`.
    pub fn protocol_for(&self, port: Option<&PortName>) -> Option<Protocol> {
        port.and_then(|name| self.port_protocols.get(name)).copied().or(self.protocol)
    }

    /// `identity`, made whole with the namespace and the trust domain.
    pub fn identity(&self) -> Option<SpiffeId> {
        Some(match self.identity.as_ref()? {
            Identity::Account(account) => SpiffeId::of_service(&self.trust_domain, self.namespace(), account),
            Identity::Whole(id) => id.clone(),
        })
    }

    /// `identity`, else that of a service account with the service's name.
    pub fn identity_or(&self, service: &ServiceName) -> SpiffeId {
        self.identity().unwrap_or_else(|| SpiffeId::of_service(&self.trust_domain, self.namespace(), service))
    }

    /// `namespace`, else the default that was given.
    pub fn namespace(&self) -> &Namespace {
        self.namespace.as_ref().unwrap_or(&self.default_namespace)
    }

    /// `service`.
    pub fn service(&self) -> Option<&ServiceName> {
        self.service.as_ref()
    }

    /// `port`: the name of the registered port, on platforms whose ports have none.
    pub fn port(&self) -> Option<&PortName> {
        self.port.as_ref()
    }

    /// `tunnel`.
    pub fn tunnel(&self) -> Option<Tunnel> {
        self.tunnel
    }

    /// `weight`.
    pub fn weight(&self) -> Option<u32> {
        self.weight
    }

    /// `locality`.
    pub fn locality(&self) -> Option<&Locality> {
        self.locality.as_ref()
    }

    /// `node`.
    pub fn node(&self) -> Option<&NodeName> {
        self.node.as_ref()
    }

    /// `network`.
    pub fn network(&self) -> Option<&Network> {
        self.network.as_ref()
    }

    /// `version`.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// `app`.
    pub fn app(&self) -> Option<&str> {
        self.app.as_deref()
    }

    /// What is for the workload's own proxy.
    pub fn proxy(&self) -> &ProxyMetadata {
        &self.proxy
    }

    /// The labels that follow from it: `app` and `version`, where they are given.
    pub fn labels(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [("app", self.app()), ("version", self.version())]
            .into_iter()
            .filter_map(|(name, value)| value.map(|value| (name, value)))
    }
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The object is used; what is not understood has no effect.
    Warning,
    /// The object is not used as it is: its last good state stays.
    Error,
}

/// A key or value that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MetadataProblem {
    /// The key as it is written, its prefix included.
    pub key: String,
    /// The value as it is written, shortened where it is very long.
    pub value: String,
    /// What would be right.
    pub expected: String,
    /// Whether the object can be used nevertheless.
    pub severity: Severity,
}

impl fmt::Display for MetadataProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, value, expected, severity } = self;
        match severity {
            Severity::Warning => write!(f, "unknown key {key:?}: {expected}"),
            Severity::Error => write!(f, "{key} is {value:?}: expected {expected}"),
        }
    }
}

/// What to write in place of an unknown key.
fn unknown_key(syntax: KeySyntax, key: &str) -> String {
    // Another platform's way to write a key that we have: `weft-protocol` in a Kubernetes annotation's place.
    let other_syntax = KeySyntax::ALL.iter().filter(|other| **other != KeySyntax::Bare).find_map(|other| {
        let key = other.key_of(key)?;
        keys::is_known(key).then(|| key.to_owned())
    });
    match other_syntax.or_else(|| nearest::nearest(key)) {
        Some(near) => format!("did you mean {:?}?", syntax.written(&near)),
        None => {
            let known: Vec<String> = KEYS.iter().map(|doc| syntax.written(doc.key)).collect();
            format!("known are {}", known.join(", "))
        }
    }
}

/// At most 100 characters: annotations may have 256 kB, and a problem ends up in logs and tables.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(100) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
