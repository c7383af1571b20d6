//! The one crypto provider: aws-lc-rs. Two providers in one process panic at run time, so it is named here only.
//!
//! AES-128-GCM first: with AES in hardware it is the fastest suite, and there is no browser to please. X25519 first: a
//! post-quantum hybrid is offered last, for a peer that insists; as a first choice it costs 2 kB a handshake.

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    let cipher_suites = vec![
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        // For servers that are not ours: a Consul behind an old load balancer. Mesh connections are TLS 1.3 only.
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ];
    let kx_groups =
        vec![kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1, kx_group::X25519MLKEM768];
    Arc::new(CryptoProvider { cipher_suites, kx_groups, ..aws_lc_rs::default_provider() })
});

/// The provider that every TLS configuration of the mesh is made with.
pub fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}

/// Makes it the process's default, for libraries that ask for one. Call it first in `main`; again is harmless.
pub fn install_crypto_provider() {
    // An error says that a provider is installed already: this one, since no other is linked in.
    let _already_there = CryptoProvider::clone(&PROVIDER).install_default();
}
