//! Registry adapter for HashiCorp Consul: one datacenter is one registry.
//!
//! One blocking query follows the list of services and one follows each service; `watch.rs` runs them, `BlockingIndex` says
//! how they ask again, `convert.rs` makes workloads of the answers, and `view.rs` decides what the mesh is told. The
//! last three are pure. Requests are built by consulrs and carried by our own transport (`transport.rs`), so that crate's
//! old HTTP stack is linked but carries nothing. It writes nothing into Consul.

mod answer;
mod client;
mod convert;
mod endpoints;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod settings;
#[cfg(feature = "testkit")]
pub mod testkit;
mod transport;
mod view;
mod watch;

pub use client::ConsulClient;
pub use error::ConsulError;
pub use settings::{ConsulSettings, InvalidSettings};
pub use watch::ConsulRegistry;
