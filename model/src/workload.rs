//! A workload: one running instance with its addresses, ports, identity and health.
//!
//! It holds facts, not decisions: whether an unhealthy one is ever used is the balancer's business.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::{InstanceId, InvalidName, Network, NodeName, PortName, RegistryId, ServiceKey};
use crate::service::{NetworkAddress, Protocol};
use crate::spiffe::SpiffeId;

/// Health as the registry knows it. The order is "worse is greater", which is what a merge keeps, but for
/// `Unknown`, which loses to everything known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Nobody checks it; it is used.
    #[default]
    Unknown,
    /// It passes its checks.
    Healthy,
    /// It finishes what it has and gets nothing new.
    Draining,
    /// It fails its checks.
    Unhealthy,
}

impl Health {
    /// Whether new requests may go there.
    pub fn takes_new_work(self) -> bool {
        matches!(self, Self::Unknown | Self::Healthy)
    }

    /// The name, as it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Draining => "draining",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a workload runs, from wide to narrow: `region/zone/subzone`, each but the first optional.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Locality {
    /// Region, or empty where nothing is known.
    pub region: String,
    /// Zone within the region.
    pub zone: String,
    /// Subzone (rack, node pool) within the zone.
    pub subzone: String,
}

impl Locality {
    /// Whether nothing is known.
    pub fn is_unknown(&self) -> bool {
        self.region.is_empty()
    }

    /// How many levels two localities share, from the widest: 0 to 3. An unknown one shares nothing.
    pub fn shared_levels(&self, other: &Locality) -> u8 {
        if self.is_unknown() || self.region != other.region {
            0
        } else if self.zone.is_empty() || self.zone != other.zone {
            1
        } else if self.subzone.is_empty() || self.subzone != other.subzone {
            2
        } else {
            3
        }
    }
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [&self.region, &self.zone, &self.subzone];
        let known = parts.iter().take_while(|part| !part.is_empty());
        f.write_str(&known.map(|part| part.as_str()).collect::<Vec<_>>().join("/"))
    }
}

impl FromStr for Locality {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let fail = |reason: &str| {
            Err(InvalidName { kind: "locality", text: text.to_owned(), reason: reason.to_owned() })
        };
        if text.is_empty() {
            return Ok(Self::default());
        }
        if text.len() > 256 || text.chars().any(char::is_control) {
            return fail("it is longer than 256 bytes or has control characters");
        }
        let parts: Vec<&str> = text.split('/').collect();
        if parts.len() > 3 || parts.iter().any(|part| part.is_empty()) {
            return fail("it is not of the form region, region/zone or region/zone/subzone");
        }
        let part = |i: usize| parts.get(i).map_or(String::new(), |part| (*part).to_owned());
        Ok(Self { region: part(0), zone: part(1), subzone: part(2) })
    }
}

impl TryFrom<String> for Locality {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}
impl From<Locality> for String {
    fn from(locality: Locality) -> String {
        locality.to_string()
    }
}

/// How a workload's proxy is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tunnel {
    /// It has no proxy: it is outside the mesh and reachable in plaintext only.
    #[default]
    None,
    /// Its proxy accepts the mTLS tunnel on this port of the workload's addresses.
    Port(u16),
}

/// A port that a workload listens on, within one of its services.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkloadPort {
    /// The service's port name it answers for.
    pub name: Option<PortName>,
    /// The number on the workload's own addresses.
    pub number: u16,
    /// What is spoken there.
    pub protocol: Protocol,
}

/// Where a fact comes from. Not part of its meaning: a change of provenance alone is pushed to nobody.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Provenance {
    /// The registry that said it.
    pub registry: RegistryId,
    /// The object within it, as its users find it again: `services/web.yaml:12`, `node-1/web-1`.
    pub object: String,
    /// Since when it has been there, in Unix milliseconds, as first seen by this process.
    pub since_unix_ms: u64,
}

/// One running instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Workload {
    /// The same in every registry that shows this instance.
    pub id: InstanceId,
    /// The services it belongs to and the ports it has in each, sorted.
    pub services: BTreeMap<ServiceKey, Vec<WorkloadPort>>,
    /// Its addresses, in order of preference, none twice.
    pub addresses: Vec<IpAddr>,
    /// The network the addresses are valid in.
    pub network: Network,
    /// The identity its proxy proves. `None`: unknown, so nobody may be taken for it over mTLS.
    pub identity: Option<SpiffeId>,
    /// How its proxy is reached.
    pub tunnel: Tunnel,
    /// Whether its proxy takes connections to all its ports, and not only to those that are registered.
    #[serde(default)]
    pub captured: bool,
    /// Where it runs.
    pub locality: Locality,
    /// The machine that it runs on, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// Its share of new requests, relative to the service's others; 0 takes none.
    pub weight: u32,
    /// Health as its registry knows it.
    pub health: Health,
    /// Labels; `version` and `app` are used in telemetry.
    pub labels: BTreeMap<String, String>,
    /// Everybody who says so, sorted.
    pub provenance: BTreeSet<Provenance>,
}

impl Workload {
    /// The weight where nobody says otherwise.
    pub const DEFAULT_WEIGHT: u32 = 100;

    /// Its addresses, each with the network in which it is valid.
    pub fn network_addresses(&self) -> impl Iterator<Item = NetworkAddress> {
        self.addresses.iter().map(|ip| NetworkAddress { network: self.network.clone(), ip: *ip })
    }

    /// Whether both mean the same: all but who says so is equal.
    pub fn meaning_eq(&self, other: &Self) -> bool {
        // Taken apart without `..`, so that a new field cannot be forgotten here.
        let Self {
            id,
            services,
            addresses,
            network,
            identity,
            tunnel,
            captured,
            locality,
            node,
            weight,
            health,
            labels,
            provenance: _,
        } = self;
        *id == other.id
            && *services == other.services
            && *addresses == other.addresses
            && *network == other.network
            && *identity == other.identity
            && *tunnel == other.tunnel
            && *captured == other.captured
            && *locality == other.locality
            && *node == other.node
            && *weight == other.weight
            && *health == other.health
            && *labels == other.labels
    }
}
