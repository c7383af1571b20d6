//! What users write about the proxy of their workload: for whoever sets that proxy up, not for its callers.
//!
//! On Kubernetes the injector reads it. A value that is not there is the mesh's setting, so everything is optional.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::name::{Namespace, PortName, ServiceName};

/// The keys whose [part](super::KeyPart) is the proxy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProxyMetadata {
    /// `inject`: whether the workload gets a proxy.
    pub inject: Option<bool>,
    /// `capture`: whether all its traffic goes through the proxy, or only that of `upstreams`.
    pub capture: Option<bool>,
    /// `dns`: whether its DNS queries go to the proxy.
    pub dns: Option<bool>,
    /// `upstreams`: services with a local address.
    pub upstreams: Vec<Upstream>,
    /// `skip-inbound-ports`.
    pub skip_inbound_ports: BTreeSet<u16>,
    /// `skip-outbound-ports`.
    pub skip_outbound_ports: BTreeSet<u16>,
    /// `skip-outbound-cidrs`.
    pub skip_outbound_cidrs: BTreeSet<Cidr>,
    /// `proxy-cpu`: what the proxy's processor share is planned with.
    pub cpu: Option<Cpu>,
    /// `proxy-memory`: what the proxy's memory is planned with.
    pub memory: Option<Memory>,
    /// `proxy-cpu-limit`.
    pub cpu_limit: Option<Cpu>,
    /// `proxy-memory-limit`.
    pub memory_limit: Option<Memory>,
    /// `log-level`: the proxy's log filter.
    pub log_level: Option<String>,
    /// `drain`: how long what is in progress may take when the workload stops.
    pub drain: Option<Duration>,
    /// `hold`: whether the application waits for its proxy.
    pub hold: Option<bool>,
    /// `inbound-plaintext`.
    pub inbound_plaintext: Option<InboundPlaintext>,
    /// `unknown`.
    pub unknown: Option<UnknownDestination>,
    /// Whether `status` says that the injector was here.
    pub injected: bool,
    /// Whether `redirect` says what is captured.
    pub redirected: bool,
}

/// A service that the workload calls at a local address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// The service's namespace; `None` is the workload's own.
    pub namespace: Option<Namespace>,
    /// The service.
    pub service: ServiceName,
    /// Its port, by name or number; `None` is the only or first one.
    pub port: Option<PortName>,
    /// Where the workload calls it: an address of loopback, since everybody else would get the workload's identity.
    pub listen: SocketAddr,
}

/// A range of addresses: `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    /// The first address.
    pub address: IpAddr,
    /// How many of its bits all addresses of the range have.
    pub prefix: u8,
}

/// A share of processors, in thousandths of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cpu(pub u32);

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Memory(pub u64);

/// Whether callers outside the mesh are let in, in plaintext and without an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InboundPlaintext {
    /// They are.
    Permissive,
    /// They are not.
    Strict,
}

/// What happens to captured connections to addresses that the mesh does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownDestination {
    /// They go there as they are.
    Pass,
    /// They are closed.
    Refuse,
}

impl InboundPlaintext {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Permissive => "permissive",
            Self::Strict => "strict",
        }
    }
}

impl UnknownDestination {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Refuse => "refuse",
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl fmt::Display for Cpu {
    /// As Kubernetes writes it: `2`, or `250m`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 % 1000 {
            0 => write!(f, "{}", self.0 / 1000),
            _ => write!(f, "{}m", self.0),
        }
    }
}

impl fmt::Display for Memory {
    /// As Kubernetes writes it, in the largest binary unit that it is a whole number of.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("Gi", 1u64 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];
        match units.iter().find(|(_, unit)| self.0.is_multiple_of(*unit)) {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

macro_rules! text_forms {
    ($type:ident, $read:path) => {
        impl std::str::FromStr for $type {
            type Err = String;
            /// Reads it; an error says what was expected.
            fn from_str(text: &str) -> Result<Self, String> {
                $read(text)
            }
        }
        impl TryFrom<String> for $type {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                $read(&text)
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.to_string()
            }
        }
    };
}

text_forms!(Cidr, super::values::cidr);
text_forms!(Cpu, super::values::cpu);
text_forms!(Memory, super::values::memory);
