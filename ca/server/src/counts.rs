//! What the CA did, for `/metrics`: certificates issued by attestor, refusals by reason, how long signing takes.

use std::time::Duration;

use weft_process::counters::{Histogram, Reasons};

/// Counts of a CA.
#[derive(Debug)]
pub struct CaCounts {
    /// Certificates, by what proved the identity.
    pub issued: Reasons,
    /// Requests without a certificate in the end, by why.
    pub refused: Reasons,
    /// From the attested request to the certificate.
    pub signing: Histogram,
}

impl Default for CaCounts {
    fn default() -> Self {
        Self {
            issued: Reasons::new(&["join_token", "consul", "kubernetes", "nomad", "renewal"]),
            refused: Reasons::new(REFUSED),
            signing: Histogram::new(&BOUNDS),
        }
    }
}

/// Why nothing is issued.
const REFUSED: &[&str] = &[
    "csr_unreadable",
    "csr_key",
    "csr_signature",
    "csr_asks",
    "csr_other_id",
    "no_attestation",
    "token_invalid",
    "token_unknown",
    "token_wrong_secret",
    "token_expired",
    "token_used",
    "consul_not_set_up",
    "consul_nonce",
    "consul_leaf",
    "consul_signature",
    "kubernetes_not_set_up",
    "kubernetes_token",
    "kubernetes_audience",
    "kubernetes_unbound",
    "kubernetes_pod_gone",
    "kubernetes_pod_ending",
    "kubernetes_node",
    "kubernetes_account",
    "nomad_not_set_up",
    "nomad_token",
    "nomad_signature",
    "nomad_audience",
    "nomad_lifetime",
    "nomad_expired",
    "nomad_issuer",
    "nomad_task",
    "nomad_claims",
    "nomad_allocation_gone",
    "nomad_not_running",
    "nomad_node",
    "nomad_parent",
    "nomad_identity",
    "no_certificate",
    "certificate_over",
    "too_many",
    "reserved_id",
    "unavailable",
];

/// A P-256 signature takes a tenth of a millisecond; an RSA one of the user's PKI some milliseconds.
const BOUNDS: [Duration; 7] = [
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(25),
    Duration::from_millis(100),
];
