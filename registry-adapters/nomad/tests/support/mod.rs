//! What the tests on the scripted server share.

pub(crate) mod fake;

/// What every process does first.
pub(crate) fn init() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
