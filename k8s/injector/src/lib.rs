//! From a pod to the patch that puts it into the mesh.
//!
//! [`inject`] is a function of the pod, its namespace's labels and the [`InjectorSettings`]; it works on JSON and not on
//! Kubernetes' types, so that fields that this version does not know survive. [`review`] is the same as an answer to the
//! API server's question, [`inject_object`] for files with workloads of any kind.
//! Pure: no IO, no clock. Who serves it over HTTPS is `weft-control`; who prints it is `weft inject`.

mod capture;
mod container;
mod decide;
mod drift;
mod environment;
mod inject;
mod options;
mod overrides;
mod patch;
mod pod;
mod probes;
mod refused;
mod review;
mod settings;
mod status;
mod workloads;
pub mod written;

pub use decide::{NamespaceView, Skip};
pub use drift::drift;
pub use inject::{Injection, Outcome, inject};
pub use patch::Operation;
pub use probes::{Header, Probe, Target};
pub use refused::Refused;
pub use review::{BadReview, MAX_REVIEW_BYTES, Owner, Reviewed, Verdict, review};
pub use settings::{InjectorSettings, PullPolicy};
pub use workloads::{ObjectInjection, WorkloadOutcome, inject_object};

/// The label of a namespace and of a pod, and the annotation of a pod, that ask for a proxy or against it.
pub const INJECT: &str = "weft.dev/inject";
/// The annotation that says what was added.
pub const STATUS: &str = "weft.dev/status";
/// The name of the proxy's container.
pub const PROXY: &str = "weft-proxy";
/// The user and the group of the proxy. Their traffic is not captured, so nobody else may have them.
pub const PROXY_ID: u32 = 1337;

/// Ports that the proxy listens on; no application can have them.
pub mod port {
    /// The proxy's admin port, on loopback.
    pub const ADMIN: u16 = 15000;
    /// Captured outbound connections.
    pub const OUTBOUND: u16 = 15001;
    /// Captured inbound connections.
    pub const INBOUND: u16 = 15006;
    /// The tunnel of other proxies.
    pub const TUNNEL: u16 = 15008;
    /// Readiness, the applications' probes and metrics.
    pub const HEALTH: u16 = 15021;
    /// Captured DNS.
    pub const DNS: u16 = 15053;
    /// All of them.
    pub const ALL: [u16; 6] = [ADMIN, OUTBOUND, INBOUND, TUNNEL, HEALTH, DNS];
}
