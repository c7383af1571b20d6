//! Verification of a presented chain: the leaf's profile, then the chain against the roots of the leaf's own trust
//! domain. Sync and pure; `verifier.rs` is the rustls side of it.
//!
//! Revocation is not looked up: leaves live a day, and a denied identity is config.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath, anchor_from_trusted_cert};
use weft_model::{SpiffeId, TrustDomain};

use crate::bundle::TrustBundles;
use crate::issuers::Issuers;
use crate::profile::{self, InvalidSvid};
use crate::provider::crypto_provider;

/// Why a peer's certificate was not accepted. Each case is one reason that a person can act on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The leaf is not an X509-SVID.
    #[error("the peer's certificate is not an X509-SVID: {0}")]
    Svid(#[from] InvalidSvid),
    /// No bundle of the id's trust domain is known.
    #[error("{id} is of trust domain {}, which is not trusted here", id.trust_domain())]
    ForeignTrustDomain {
        /// The id that the leaf names.
        id: SpiffeId,
    },
    /// No root of the id's trust domain signed the chain.
    #[error("the certificate of {id} is not signed by a root of its trust domain")]
    UnknownIssuer {
        /// The id that the leaf names.
        id: SpiffeId,
    },
    /// The certificate (or one of its chain) is over.
    #[error("the certificate of {id} expired at {} (Unix time), now it is {}", not_after.as_secs(), now.as_secs())]
    Expired {
        /// The id that the leaf names.
        id: SpiffeId,
        /// Its end.
        not_after: UnixTime,
        /// The time of the check.
        now: UnixTime,
    },
    /// The certificate (or one of its chain) is not valid yet: usually a clock that is wrong.
    #[error(
        "the certificate of {id} is valid from {} (Unix time), now it is {}: is a clock wrong?",
        not_before.as_secs(),
        now.as_secs()
    )]
    NotYetValid {
        /// The id that the leaf names.
        id: SpiffeId,
        /// Its beginning.
        not_before: UnixTime,
        /// The time of the check.
        now: UnixTime,
    },
    /// Valid, but somebody else's.
    #[error("the peer is {presented}, expected was {expected}")]
    WrongId {
        /// Who was wanted.
        expected: SpiffeId,
        /// Who answered.
        presented: SpiffeId,
    },
    /// Longer than any way to a root is. Checking it would cost us more than presenting it costs the peer.
    #[error("the peer presents {count} certificates, at most {LONGEST_CHAIN} are looked at")]
    ChainTooLong {
        /// So many certificates.
        count: usize,
    },
    /// Any other rule of RFC 5280 that the chain breaks.
    #[error("the certificate chain of {id}: {source}")]
    Chain {
        /// The id that the leaf names.
        id: SpiffeId,
        /// The rule.
        source: webpki::Error,
    },
    /// First contact: no certificate of the presented chain has a pinned hash.
    #[error(
        "no certificate of the presented chain is the pinned root; it is another control plane, or its root changed"
    )]
    NotPinned,
    /// First contact: the id is not the one whose path was expected.
    #[error("the peer is {presented}, expected was an id with path {expected}")]
    WrongPath {
        /// The path that was wanted.
        expected: String,
        /// Who answered.
        presented: SpiffeId,
    },
}

/// Checks a chain, leaf first, and returns whose it is.
///
/// # Errors
/// Why it is refused.
pub fn verify(
    chain: &[CertificateDer<'_>],
    bundles: &TrustBundles,
    now: UnixTime,
) -> Result<SpiffeId, VerifyError> {
    Anchors::of(bundles).verify(chain, now, Role::Client)
}

/// Certificates of a chain, the leaf among them. Each may cost a signature check, before anybody has proved anything.
const LONGEST_CHAIN: usize = 8;

/// What the peer is in the connection: decides which extended key usage must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

/// The bundles in webpki's form, made once instead of at each handshake.
#[derive(Debug, Default)]
pub(crate) struct Anchors(BTreeMap<TrustDomain, Anchored>);

/// A trust domain's roots, and who was seen to issue under them.
#[derive(Debug)]
struct Anchored {
    roots: Vec<TrustAnchor<'static>>,
    issuers: Issuers,
}

impl Anchors {
    pub(crate) fn of(bundles: &TrustBundles) -> Self {
        let anchored = |roots: &[CertificateDer<'static>]| {
            // A root that webpki can't read vouches for nobody: leaving it out refuses, never admits.
            let roots = roots.iter().filter_map(|root| Some(anchor_from_trusted_cert(root).ok()?.to_owned()));
            Anchored { roots: roots.collect(), issuers: Issuers::default() }
        };
        Self(bundles.iter().map(|bundle| (bundle.trust_domain.clone(), anchored(&bundle.roots))).collect())
    }

    #[cfg(test)]
    pub(crate) fn issuers(&self, domain: &TrustDomain) -> Option<&Issuers> {
        self.0.get(domain).map(|anchored| &anchored.issuers)
    }

    pub(crate) fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
        role: Role,
    ) -> Result<SpiffeId, VerifyError> {
        if chain.len() > LONGEST_CHAIN {
            return Err(VerifyError::ChainTooLong { count: chain.len() });
        }
        let id = profile::peer_id(chain)?;
        let Some(anchored) = self.0.get(&id.trust_domain()) else {
            return Err(VerifyError::ForeignTrustDomain { id });
        };
        anchored.check(chain, now, role).map_err(|error| classify(id.clone(), now, error))?;
        Ok(id)
    }
}

impl Anchored {
    fn check(&self, chain: &[CertificateDer<'_>], now: UnixTime, role: Role) -> Result<(), webpki::Error> {
        if let (Some(issuer), Some(leaf)) = (self.issuers.of(chain, now, role), chain.first())
            && check_chain(std::slice::from_ref(leaf), std::slice::from_ref(&issuer.anchor), now, role)
                .is_ok()
        {
            return Ok(());
        }
        check_path(chain, &self.roots, now, role, |path| self.issuers.learn(path, role))
    }
}

/// RFC 5280 path validation by webpki, against exactly these anchors.
pub(crate) fn check_chain(
    chain: &[CertificateDer<'_>],
    anchors: &[TrustAnchor<'_>],
    now: UnixTime,
    role: Role,
) -> Result<(), webpki::Error> {
    check_path(chain, anchors, now, role, |_| ())
}

/// The same; `verified` gets the way that was found.
fn check_path(
    chain: &[CertificateDer<'_>],
    anchors: &[TrustAnchor<'_>],
    now: UnixTime,
    role: Role,
    verified: impl FnOnce(&VerifiedPath<'_>),
) -> Result<(), webpki::Error> {
    let (leaf, intermediates) = chain.split_first().ok_or(webpki::Error::BadDer)?;
    let leaf = EndEntityCert::try_from(leaf)?;
    let usage = match role {
        Role::Client => KeyUsage::client_auth(),
        Role::Server => KeyUsage::server_auth(),
    };
    verified(&leaf.verify_for_usage(algorithms().all, anchors, intermediates, now, usage, None, None)?);
    Ok(())
}

pub(crate) fn classify(id: SpiffeId, now: UnixTime, error: webpki::Error) -> VerifyError {
    match error {
        // A wrong signature is a root of the same name with another key: to its reader an issuer that is not known.
        webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
            VerifyError::UnknownIssuer { id }
        }
        webpki::Error::CertExpired { not_after, .. } => VerifyError::Expired { id, not_after, now },
        webpki::Error::CertNotValidYet { not_before, .. } => VerifyError::NotYetValid { id, not_before, now },
        source => VerifyError::Chain { id, source },
    }
}

pub(crate) fn algorithms() -> WebPkiSupportedAlgorithms {
    crypto_provider().signature_verification_algorithms
}

/// The error as rustls carries it, so that `refusal.rs` finds it again.
pub(crate) fn into_rustls(error: VerifyError) -> rustls::Error {
    rustls::Error::InvalidCertificate(rustls::CertificateError::Other(rustls::OtherError(Arc::new(error))))
}

#[cfg(test)]
mod tests;
