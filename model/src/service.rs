//! A service: what callers name. Its instances are [`Workload`](crate::Workload)s that say they belong to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::{InvalidName, Network, PortName, ServiceKey};
use crate::prefer::Prefer;

/// What is spoken on a port. Declared by the registry; never guessed where it is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2 without TLS (prior knowledge).
    Http2,
    /// gRPC: HTTP/2, and the status is in the trailers.
    Grpc,
    /// Opaque bytes; also for protocols where the server speaks first.
    Tcp,
    /// TLS of the application itself, passed through as opaque bytes.
    Tls,
    /// Not declared: the proxy looks at the first bytes.
    #[default]
    Detect,
}

impl Protocol {
    /// The name, as users write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Detect => "detect",
        }
    }

    /// Whether requests, and not only bytes, can be told apart.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http1 | Self::Http2 | Self::Grpc)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Protocol {
    type Err = InvalidName;
    /// Reads a protocol; `http` is `http1`, and Kubernetes' `appProtocol` values for HTTP/2 and WebSocket are known.
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Ok(match text {
            "http1" | "http" | "http/1.1" | "kubernetes.io/ws" => Self::Http1,
            "http2" | "h2c" | "kubernetes.io/h2c" => Self::Http2,
            "grpc" => Self::Grpc,
            "tcp" => Self::Tcp,
            "tls" | "https" => Self::Tls,
            "detect" => Self::Detect,
            _ => {
                return Err(InvalidName {
                    kind: "protocol",
                    text: text.to_owned(),
                    reason: "http1, http2, grpc, tcp, tls and detect are known".to_owned(),
                });
            }
        })
    }
}

/// A port of a service as callers see it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServicePort {
    /// The port's name, where it has one. Names join a service's ports to its workloads' ports.
    pub name: Option<PortName>,
    /// The number callers use; 0 where a registry gives the service no number of its own (Consul, Nomad).
    pub number: u16,
    /// What is spoken there.
    pub protocol: Protocol,
}

/// A service as one registry describes it, or as merged from all that do.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Service {
    /// Namespace and name.
    pub key: ServiceKey,
    /// Its ports, sorted, no name twice. Empty: whatever its workloads have.
    pub ports: Vec<ServicePort>,
    /// Labels of the service itself.
    pub labels: BTreeMap<String, String>,
    /// Addresses that stand for the service and belong to none of its instances: Kubernetes' cluster IPs and those of its
    /// load balancers.
    #[serde(default)]
    pub addresses: BTreeSet<NetworkAddress>,
    /// Which endpoints its callers prefer. `None`: nobody says, and each caller's own setting holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefer: Option<Prefer>,
}

/// An address, and the network in which it is valid. Its text is `network/address`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NetworkAddress {
    /// The network.
    pub network: Network,
    /// The address.
    pub ip: IpAddr,
}

impl fmt::Display for NetworkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.ip)
    }
}

impl FromStr for NetworkAddress {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let fail = |reason: &str| InvalidName {
            kind: "network address",
            text: text.to_owned(),
            reason: reason.to_owned(),
        };
        let (network, ip) =
            text.split_once('/').ok_or_else(|| fail("it is not of the form network/address"))?;
        let read: IpAddr = ip.parse().map_err(|_| fail("what follows the network is no address"))?;
        // One spelling: two names of one address would be two subscriptions.
        if read.to_string() != ip {
            return Err(fail("the address is not in its shortest form"));
        }
        Ok(Self { network: network.parse()?, ip: read })
    }
}

impl Service {
    /// The service that nobody declares and that workloads say they belong to: it has what they have.
    pub fn undeclared(key: ServiceKey) -> Self {
        Self { key, ports: Vec::new(), labels: BTreeMap::new(), addresses: BTreeSet::new(), prefer: None }
    }

    /// Whether both mean the same. A service carries no provenance, so this is equality; the name is here so that
    /// callers need not know.
    pub fn meaning_eq(&self, other: &Self) -> bool {
        self == other
    }
}
