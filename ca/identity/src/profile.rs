//! The strict X509-SVID profile of a leaf (SPIFFE X509-SVID 2 to 5). Looks at one certificate; the chain is
//! `verify.rs`'s part, since webpki checks chains but never looks at URI names.

use rustls_pki_types::CertificateDer;
use weft_model::{InvalidSpiffeId, SpiffeId, TrustDomain};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// Why a certificate is not an X509-SVID of a workload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSvid {
    /// There is no certificate at all.
    #[error("there is no certificate")]
    NoCertificate,
    /// It is not DER of an X.509 certificate, or an extension is damaged or present twice.
    #[error("the certificate can't be read: {0}")]
    Unreadable(String),
    /// It names no URI, or more than one.
    #[error("an X509-SVID has exactly one URI name, this certificate has {0}")]
    UriCount(usize),
    /// The URI is not a SPIFFE id.
    #[error("the URI name is not a SPIFFE id")]
    Id(#[from] InvalidSpiffeId),
    /// The id is a trust domain's own: a signing certificate's, not a workload's.
    #[error("{0} has no path, so it names a trust domain and no workload")]
    NoPath(SpiffeId),
    /// `cA` is set: a signing certificate is never a peer.
    #[error("it is a CA certificate")]
    IsCa,
    /// Key usage is missing or not critical, misses digitalSignature, or allows signing certificates or CRLs.
    #[error("key usage: {0}")]
    KeyUsage(&'static str),
    /// Extended key usage is present without both serverAuth and clientAuth.
    #[error("extended key usage is present but lacks {0}")]
    ExtendedKeyUsage(&'static str),
    /// The subject is empty, and the alternative name is not critical (RFC 5280, 4.1.2.6).
    #[error("the subject is empty but the subject alternative name is not critical")]
    SanNotCritical,
    /// The private key is of another certificate, or of a kind that is not supported.
    #[error("the private key: {0}")]
    Key(String),
}

/// The SPIFFE id of the peer that presented `chain`, leaf first. The profile is checked, the chain is not: call it
/// on what rustls has verified already.
///
/// # Errors
/// When the leaf is not an X509-SVID.
pub fn peer_id(chain: &[CertificateDer<'_>]) -> Result<SpiffeId, InvalidSvid> {
    let leaf = chain.first().ok_or(InvalidSvid::NoCertificate)?;
    check(&parse(leaf)?)
}

/// Reads one certificate; nothing may follow it.
/// The trust domain that a root names, as the SPIFFE X509-SVID standard recommends (4.1) and ours do.
pub fn domain_of_root(root: &CertificateDer<'_>) -> Option<TrustDomain> {
    let parsed = parse(root).ok()?;
    let names = &parsed.subject_alternative_name().ok()??.value.general_names;
    names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix("spiffe://")?.parse().ok(),
        _ => None,
    })
}

pub(crate) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, InvalidSvid> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(InvalidSvid::Unreadable("bytes follow the certificate".to_owned())),
        Err(error) => Err(InvalidSvid::Unreadable(error.to_string())),
    }
}

/// Checks the whole profile and returns the id.
pub(crate) fn check(leaf: &X509Certificate<'_>) -> Result<SpiffeId, InvalidSvid> {
    if leaf.basic_constraints().map_err(unreadable)?.is_some_and(|constraints| constraints.value.ca) {
        return Err(InvalidSvid::IsCa);
    }
    check_key_usage(leaf)?;
    if let Some(usage) = leaf.extended_key_usage().map_err(unreadable)? {
        match (usage.value.server_auth, usage.value.client_auth) {
            (true, true) => {}
            (false, _) => return Err(InvalidSvid::ExtendedKeyUsage("serverAuth")),
            (true, false) => return Err(InvalidSvid::ExtendedKeyUsage("clientAuth")),
        }
    }
    let id = uri_name(leaf)?;
    if id.path().is_empty() {
        return Err(InvalidSvid::NoPath(id));
    }
    Ok(id)
}

/// The one URI name, as a SPIFFE id. Serves CA certificates too, whose id has no path.
pub(crate) fn uri_name(certificate: &X509Certificate<'_>) -> Result<SpiffeId, InvalidSvid> {
    let Some(names) = certificate.subject_alternative_name().map_err(unreadable)? else {
        return Err(InvalidSvid::UriCount(0));
    };
    let mut uris = Vec::new();
    for name in &names.value.general_names {
        match name {
            GeneralName::URI(uri) => uris.push(*uri),
            GeneralName::Invalid(..) => {
                return Err(InvalidSvid::Unreadable("an alternative name is damaged".to_owned()));
            }
            // Other kinds of names are allowed and mean nothing here.
            _ => {}
        }
    }
    let [uri] = uris.as_slice() else { return Err(InvalidSvid::UriCount(uris.len())) };
    if certificate.subject().iter_rdn().next().is_none() && !names.critical {
        return Err(InvalidSvid::SanNotCritical);
    }
    Ok(uri.parse()?)
}

fn check_key_usage(leaf: &X509Certificate<'_>) -> Result<(), InvalidSvid> {
    let fail = |reason| Err(InvalidSvid::KeyUsage(reason));
    let Some(usage) = leaf.key_usage().map_err(unreadable)? else { return fail("it is missing") };
    if !usage.critical {
        return fail("it is not critical");
    }
    if !usage.value.digital_signature() {
        return fail("digitalSignature is missing");
    }
    if usage.value.key_cert_sign() || usage.value.crl_sign() {
        return fail("it allows to sign certificates or CRLs");
    }
    Ok(())
}

fn unreadable(error: x509_parser::error::X509Error) -> InvalidSvid {
    InvalidSvid::Unreadable(error.to_string())
}

#[cfg(test)]
mod tests;
