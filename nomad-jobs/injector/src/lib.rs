//! From a Nomad job to the same job with its sidecars.
//!
//! [`inject`] is a function of the job, as Nomad's own API has it in JSON, and the [`NomadInjectorSettings`]; it works on JSON and not
//! on types, so that fields that this version does not know survive. What it adds it writes down in the sidecar's `meta`, so
//! [`take_away`] gives the job back as it was, and injecting again replaces and never adds. Pure: no IO, no clock; HCL is
//! read by Nomad's servers. Who asks them is `weft nomad`.

mod checks;
mod environment;
mod group;
mod inject;
mod job;
mod network;
mod options;
mod settings;
mod stanza;
mod status;
mod tasks;

pub use inject::{Injection, inject, take_away};
pub use settings::{Driver, NomadInjectorSettings};
pub use stanza::stanza;

/// The task that puts the rules of the capture into the allocation's network.
pub use weft_registry_nomad::sidecar::{REDIRECT_TASK, SIDECAR_TASK, TUNNEL_PORT};

/// The task that keeps the application's tasks waiting until the proxy is ready.
pub const READY_TASK: &str = "weft-ready";
/// The label of the group's port that leads to the proxy's health port.
pub const HEALTH_PORT: &str = "weft_health";
/// The label of the proxy's admin port, where there is no network of the allocation's own.
pub const ADMIN_PORT: &str = "weft_admin";
/// The start of the labels of ports that upstreams have on the node.
pub const UPSTREAM_PORT: &str = "weft_upstream_";
/// The key of the sidecar's `meta` that says what was added.
pub const STATUS: &str = "weft.dev/status";
