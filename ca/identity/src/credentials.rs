//! Credentials: an SVID and the bundles to judge peers by, of one moment; and the TLS configurations made of them.
//!
//! No session is resumed and no ticket is sent: a resumed session skips the peer's certificate, so an expired or
//! replaced identity would live on in it. A handshake costs a P-256 signature; pools make handshakes rare.

use std::fmt;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, ConfigBuilder, ConfigSide, ServerConfig, WantsVerifier, WantsVersions};
use weft_model::SpiffeId;

use crate::bundle::TrustBundles;
use crate::svid::Svid;
use crate::verifier::{ClientVerifier, ExactId, ServerVerifier};
use crate::verify::Anchors;

/// Whether a server insists on a client certificate. One that is presented is always verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// Without one the handshake fails.
    Required,
    /// Without one the client is nobody.
    Optional,
}

/// Why there is no TLS configuration.
#[derive(Debug, thiserror::Error)]
#[error("making a TLS configuration")]
pub struct CredentialsError(#[from] rustls::Error);

/// An own SVID and the trust bundles, as they were together at one moment.
pub struct Credentials {
    /// The own identity.
    pub svid: Arc<Svid>,
    /// Whom to trust.
    pub bundles: Arc<TrustBundles>,
    /// Grows with each change of either. A TLS configuration of an older generation is stale.
    pub generation: u64,
    anchors: Arc<Anchors>,
}

impl Credentials {
    /// Credentials of their parts.
    pub fn new(svid: Arc<Svid>, bundles: Arc<TrustBundles>, generation: u64) -> Self {
        let anchors = Arc::new(Anchors::of(&bundles));
        Self { svid, bundles, generation, anchors }
    }

    /// For accepting connections: shows the SVID, admits clients of all trusted domains.
    ///
    /// # Errors
    /// When rustls refuses the provider's parameters.
    pub fn server_config(
        &self,
        alpn: &[&[u8]],
        client: ClientAuth,
    ) -> Result<Arc<ServerConfig>, CredentialsError> {
        let verifier = ClientVerifier { anchors: Arc::clone(&self.anchors), client };
        let mut config = tls13(ServerConfig::builder_with_provider(crate::crypto_provider()))?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(self.svid.resolver());
        config.alpn_protocols = protocols(alpn);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// For connecting to `expected` and nobody else.
    ///
    /// # Errors
    /// When rustls refuses the provider's parameters.
    pub fn client_config(
        &self,
        expected: &SpiffeId,
        alpn: &[&[u8]],
    ) -> Result<Arc<ClientConfig>, CredentialsError> {
        let judge = ExactId { anchors: Arc::clone(&self.anchors), expected: expected.clone() };
        let mut config = tls13(ClientConfig::builder_with_provider(crate::crypto_provider()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(ServerVerifier(judge)))
            .with_client_cert_resolver(self.svid.resolver());
        harden_client(&mut config, alpn);
        Ok(Arc::new(config))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let domains: Vec<_> = self.bundles.0.keys().collect();
        f.debug_struct("Credentials")
            .field("svid", &self.svid)
            .field("trusted", &domains)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

pub(crate) fn tls13<S: ConfigSide>(
    builder: ConfigBuilder<S, WantsVersions>,
) -> Result<ConfigBuilder<S, WantsVerifier>, CredentialsError> {
    Ok(builder.with_protocol_versions(&[&rustls::version::TLS13])?)
}

/// What every client of the mesh has in common: no SNI, since names would leak and mean nothing; no resumption.
pub(crate) fn harden_client(config: &mut ClientConfig, alpn: &[&[u8]]) {
    config.alpn_protocols = protocols(alpn);
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
}

fn protocols(alpn: &[&[u8]]) -> Vec<Vec<u8>> {
    alpn.iter().map(|protocol| protocol.to_vec()).collect()
}

#[cfg(test)]
mod tests;
