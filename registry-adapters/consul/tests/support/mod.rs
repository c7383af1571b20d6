//! What the tests of the adapter share: a fake Consul that can misbehave, and the adapter under supervision with a catalog
//! behind it, as in the control plane.

#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod fake;
pub(crate) mod watching;

use std::sync::Once;

/// Installs the TLS provider, as a `main` would.
pub(crate) fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
}
