//! Identity: SVIDs, trust bundles, and TLS that checks whole SPIFFE ids.
//!
//! A process has one [`SvidSource`]. Whoever obtains an SVID puts it in; whoever opens or accepts connections takes
//! [`Credentials`] out and makes a TLS configuration of them. TLS is mutual, 1.3 only, without SNI and without session
//! resumption: a resumed session would skip the check of the peer's certificate.
//!
//! A peer is its SPIFFE id: the verifier checks the strict X509-SVID profile, the chain against the bundle of the id's
//! *own* trust domain (bundles are never merged), and for a server that the whole id is the expected one.
//! Does no IO and asks for no certificate: that is the proxy's (and weft-ca's) part.

mod any_server;
mod attestation;
mod bundle;
mod credentials;
mod csr;
mod issuers;
mod keeping;
mod pem;
mod pin;
mod profile;
mod provider;
mod refusal;
mod renewal;
mod source;
mod stored_token;
mod svid;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
mod token;
mod verifier;
mod verify;

pub use any_server::AnyServer;
pub use attestation::{AttestationError, consul_attestation_message, sign_consul_attestation};
pub use bundle::{InvalidBundle, TrustBundle, TrustBundles};
pub use credentials::{ClientAuth, Credentials, CredentialsError};
pub use csr::{KeyError, new_key_and_csr};
pub use keeping::{Keeping, Step, validity};
pub use pem::{InvalidPem, certificates_from_pem, certificates_to_pem, key_from_pem, key_to_pem};
pub use pin::{InvalidPin, RootPin, pinned_client_config};
pub use profile::{InvalidSvid, domain_of_root, peer_id};
pub use provider::{crypto_provider, install_crypto_provider};
pub use refusal::{RefusalReason, refusal_of_io, refusal_reason, verify_error_of_io};
pub use renewal::{RenewalSchedule, RenewalState};
pub use source::SvidSource;
pub use stored_token::{SHARED_TOKENS, StoredToken, TokenState, UnfitToken};
pub use svid::Svid;
pub use token::{InvalidToken, JoinToken};
pub use verify::{VerifyError, verify};

/// ALPN of connections between Weft's own proxies: HTTP/2 that carries requests and CONNECT streams.
pub const ALPN_WEFT: &[u8] = b"weft/1";
/// ALPN of HBONE: HTTP/2 that carries CONNECT streams only.
pub const ALPN_HBONE: &[u8] = b"h2";
/// The path of the control plane's own SPIFFE id, in every trust domain.
pub const CONTROL_PLANE_PATH: &str = "/ns/weft-system/sa/weft-control";
