//! `GET /v1/proxies`: each connected proxy, and how far it follows.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// One connected proxy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProxyStatus {
    /// Its node id: `<spiffe id>~<instance>`.
    pub name: String,
    /// The identity that it proved.
    pub identity: String,
    /// The instance's own name.
    pub instance: String,
    /// Where its connection comes from.
    pub address: SocketAddr,
    /// Program and version.
    pub user_agent: String,
    /// Since when it is connected.
    pub connected_unix_ms: u64,
    /// The newest revision of which it has everything that concerns it; `None` before the first.
    pub applied_revision: Option<u64>,
    /// Whether it follows.
    pub sync: ProxySync,
    /// Why it does not follow: a sentence each.
    pub reasons: Vec<String>,
    /// How many services it subscribes to.
    pub subscriptions: usize,
}

/// Whether a proxy follows the published state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxySync {
    /// It acknowledged everything that concerns it.
    InSync,
    /// Something is on its way.
    Behind,
    /// It refused a resource and keeps the last good one.
    Refused,
}

impl ProxySync {
    /// The name, as it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InSync => "in sync",
            Self::Behind => "behind",
            Self::Refused => "refused",
        }
    }
}

/// `GET /v1/proxies/NAME`: all that is known of one proxy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProxyDump {
    /// As in the list.
    pub proxy: ProxyStatus,
    /// Each resource type that it subscribed to.
    pub types: Vec<TypeStatus>,
}

/// One resource type of one proxy's stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TypeStatus {
    /// The type: `Workload`, `Service`, `TrustBundle`.
    pub resource_type: String,
    /// How many names it subscribed to.
    pub subscribed: usize,
    /// Resources that it was sent.
    pub held: usize,
    /// Resources that wait until the response in flight is acknowledged.
    pub waiting: usize,
    /// The revision of the response that is not yet acknowledged.
    pub in_flight_revision: Option<u64>,
    /// The newest revision sent.
    pub sent_revision: Option<u64>,
    /// The newest revision acknowledged.
    pub acked_revision: Option<u64>,
    /// What it refused and has not been replaced since.
    pub refused: Vec<Refusal>,
}

/// A resource that a proxy refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The resource's name.
    pub resource: String,
    /// The field within it; empty when the whole of it was refused.
    pub field_path: String,
    /// Why.
    pub reason: String,
}
