//! `GET /v1/status`: the control plane, its registries, its proxies.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use weft_model::{RegistryId, Severity, TrustDomain};

use crate::proxy::ProxyStatus;

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The process itself.
    pub control_plane: ControlPlaneStatus,
    /// Each registry, sorted by id.
    pub registries: Vec<RegistryStatus>,
    /// Each connected proxy, sorted by name.
    pub proxies: Vec<ProxyStatus>,
}

/// The control plane's process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ControlPlaneStatus {
    /// Version of `weft-control`.
    pub version: String,
    /// The mesh's trust domain.
    pub trust_domain: TrustDomain,
    /// Where it listens for proxies.
    pub listen: SocketAddr,
    /// Whether proxies are served.
    pub ready: bool,
    /// Why not, or what readiness did not wait for any longer: a sentence each.
    pub notes: Vec<String>,
    /// The published revision of the mesh's state; starts anew with the process.
    pub revision: u64,
    /// How many services there are.
    pub services: usize,
    /// How many workloads there are.
    pub workloads: usize,
    /// When the process started.
    pub started_unix_ms: u64,
    /// The control plane's clock as it answered: ages are relative to it.
    pub now_unix_ms: u64,
    /// When the control plane's own certificate expires.
    pub certificate_expires_unix_ms: Option<u64>,
    /// The roots of the mesh's trust domain.
    pub roots: Vec<RootView>,
}

/// A root certificate of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootView {
    /// SHA-256 of the certificate's DER, in hex: what a proxy pins.
    pub sha256: String,
    /// When it expires.
    pub expires_unix_ms: Option<u64>,
}

/// How far a registry can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegistryState {
    /// Its first listing is not complete.
    Syncing,
    /// What is held is what it says now.
    Synced,
    /// It does not answer, or not understandably: what it said last is served.
    Stale,
    /// It refuses us: what it said last is served.
    Denied,
    /// It says that what was asked for does not exist; what it said last is served.
    NotFound,
}

impl RegistryState {
    /// The name, as it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Syncing => "syncing",
            Self::Synced => "synced",
            Self::Stale => "stale",
            Self::Denied => "denied",
            Self::NotFound => "not_found",
        }
    }
}

/// One registry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegistryStatus {
    /// Its id: `consul/dc1`.
    pub id: RegistryId,
    /// Whether readiness waits for it beyond its deadline.
    pub required: bool,
    /// How far it can be believed.
    pub state: RegistryState,
    /// Since when it is in that state.
    pub since_unix_ms: u64,
    /// When its first listing was complete.
    pub first_sync_unix_ms: Option<u64>,
    /// When it last said something.
    pub last_event_unix_ms: Option<u64>,
    /// Entries of it that are held: declared services and workloads.
    pub entries: usize,
    /// The last error, also when it is over.
    pub last_error: Option<RegistryError>,
    /// Objects in it that can't be used as they are.
    pub problems: Vec<ProblemView>,
    /// A listing that would remove too much at once and waits to be confirmed.
    pub held_reset: Option<HeldReset>,
}

/// An error of a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryError {
    /// When it happened last.
    pub at_unix_ms: u64,
    /// What happened.
    pub message: String,
}

/// A problem of one object of a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemView {
    /// How bad it is.
    pub severity: Severity,
    /// The object, as its users find it: `services/web.yaml:12`, `node-1/web-1`.
    pub object: String,
    /// The field within it, where one is at fault.
    pub field: Option<String>,
    /// What is wrong and what was expected.
    pub message: String,
}

/// A listing that waits to be confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldReset {
    /// Since when.
    pub since_unix_ms: u64,
    /// How many workloads it would remove.
    pub would_remove: usize,
    /// How many workloads are held.
    pub of: usize,
}
