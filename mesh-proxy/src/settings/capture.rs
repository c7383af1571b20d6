//! Settings of transparent capture: the listeners to which the kernel redirects, and what is done with what is unknown.
//!
//! The redirection itself is set up before this process starts (`weft-redirect`); here is only where its connections arrive.

use std::net::SocketAddr;

use serde::Deserialize;
use weft_model::Network;

/// `[capture]`. Without a listener nothing is captured.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CaptureSettings {
    /// Where the application's own connections arrive. One that is made to the listener itself is routed by `Host`.
    pub(crate) outbound: Vec<SocketAddr>,
    /// Where connections to the application arrive that don't come through the tunnel.
    pub(crate) inbound: Vec<SocketAddr>,
    /// The network in which the destinations' addresses are valid.
    pub(crate) network: Network,
    /// What becomes of a destination that is nobody's in the mesh.
    pub(crate) unknown: UnknownDestination,
    /// Whether callers without an identity reach the application.
    pub(crate) plaintext: Plaintext,
}

/// What becomes of a captured connection to a destination that is nobody's in the mesh, or of which nothing is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UnknownDestination {
    /// Its bytes are passed on to where it was going. That grants nothing: a callee in the mesh decides by itself.
    #[default]
    Pass,
    /// It is closed.
    Refuse,
}

/// Whether captured connections without an identity reach the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Plaintext {
    /// They do, as callers without an identity.
    #[default]
    Permissive,
    /// They are closed; only the tunnel leads in.
    Strict,
}

impl Default for CaptureSettings {
    fn default() -> Self {
        Self {
            outbound: Vec::new(),
            inbound: Vec::new(),
            network: Network::default_network(),
            unknown: UnknownDestination::default(),
            plaintext: Plaintext::default(),
        }
    }
}
