//! Registry adapter for HashiCorp Nomad: one region is one registry.
//!
//! It reads Nomad's own services (`provider = "nomad"`), the allocations behind them and the nodes these run on, and writes
//! nothing. [`NomadClient`] carries every request to Nomad, also those of attestation and of `weft nomad`; which identity a
//! job may have is decided by [`IdentityRules`], for the registry and for the certificate authority alike.

mod answer;
pub mod attest;
mod client;
mod convert;
mod error;
mod identity;
mod settings;
pub mod sidecar;
#[cfg(feature = "testkit")]
pub mod testkit;
mod view;
mod watch;

pub use client::{Answer, Block, NomadClient};
pub use error::NomadError;
pub use identity::{IdentityRule, IdentityRules, JobIdentityError};
pub use settings::{InvalidSettings, NomadSettings};
pub use watch::NomadRegistry;
