//! A real Kubernetes of one node, for tests and for trying things: real pods, real controllers, nothing pulled.
//!
//! [`Cluster::start`] brings one up in pid, mount and network namespaces of its own, so that one killed process ends all
//! of it; pods, services and API server are reached from the host over one link. Several may be at once. What is on the
//! machine is enough: how its programs get there is `cargo xtask tools`' affair. Linux, root, Debian's packages.
//!
//! The program `weft-cluster` of this crate is what `cargo xtask cluster` runs, and also the first process of a node.

mod cgroups;
mod cluster;
mod command;
mod components;
mod end;
mod files;
mod images;
mod kept;
mod link;
mod network;
mod node;
mod pki;
mod ready;
mod record;
mod running;

pub use cluster::{Keep, Plan, start};
pub use components::Tools;
pub use end::{down, list};
pub use kept::Kept;
pub use network::Network;
pub use record::{InvalidName, Name};
pub use running::Cluster;

use std::path::Path;

/// Runs as the first process of a node; `weft-cluster node` alone calls it.
///
/// # Errors
/// When the node can't begin; there is no other way back.
pub fn node(folder: &Path) -> anyhow::Result<()> {
    node::run(&files::Folder(folder.to_owned()))
}

/// Brings a cluster up, says `ready`, and takes it away when standard input ends; `weft-cluster hold` alone calls it.
///
/// # Errors
/// When it does not come up, or something of it can't be taken away.
pub fn hold(plan: &Plan) -> anyhow::Result<()> {
    kept::hold(plan)
}
