//! What signs: the root, the issuing certificate, and the leaves' and their own parameters. Pure but for randomness;
//! `authority.rs` decides where they are kept.
//!
//! Root: 10 years, path length 1. Issuing certificate: 1 year, path length 0, made anew by the own root when a third
//! of its life is left. The root signs nothing else.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use weft_identity::{InvalidBundle, InvalidPem, VerifyError};
use weft_model::{SpiffeId, TrustDomain};

use crate::csr::InvalidCsr;
use crate::state::StateError;

/// Why there is no working authority.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// A setting is out of its range.
    #[error("{setting} is {value}; expected {expected}")]
    Setting {
        /// Which one.
        setting: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A file of the user's is not the PEM that it should be.
    #[error("{file}: {cause}")]
    Pem {
        /// The file.
        file: String,
        /// What is wrong with it.
        cause: InvalidPem,
    },
    /// A file of roots holds something else.
    #[error("{file}: {cause}")]
    Bundle {
        /// The file.
        file: String,
        /// What is wrong with it.
        cause: InvalidBundle,
    },
    /// A file's certificate or key can't be used to sign.
    #[error("{file}: {problem}")]
    Unusable {
        /// The file.
        file: String,
        /// Why not.
        problem: String,
    },
    /// A leaf that was issued to try it does not verify.
    #[error("the certificates of {file} do not issue valid leaves: {cause}")]
    Unverifiable {
        /// The file of the issuing certificate.
        file: String,
        /// What a peer would say.
        cause: VerifyError,
    },
    /// Making a certificate failed.
    #[error("making the certificate of {what}")]
    Sign {
        /// Whose.
        what: &'static str,
        /// The library's answer.
        #[source]
        source: rcgen::Error,
    },
}

/// Why a leaf was not issued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The request.
    #[error(transparent)]
    Csr(#[from] InvalidCsr),
    /// The identity is of another trust domain.
    #[error("{0} is not of this authority's trust domain")]
    ForeignTrustDomain(SpiffeId),
    /// The identity is the control plane's or has no path: never for anybody who asks.
    #[error("{0} is reserved")]
    Reserved(SpiffeId),
    /// The issuing certificate is (almost) over.
    #[error("the issuing certificate ends at {}: renew it", humantime::format_rfc3339_seconds(*.0))]
    IssuerEnding(SystemTime),
    /// Signing failed.
    #[error("signing the leaf")]
    Sign(#[from] rcgen::Error),
    /// The leaf breaks the profile, which would be this crate's mistake.
    #[error("the leaf is no SVID")]
    Leaf(#[from] weft_identity::InvalidSvid),
    /// There is no key for the own certificate.
    #[error(transparent)]
    Key(#[from] weft_identity::KeyError),
}

/// A certificate that signs, with its key.
#[derive(Debug)]
pub(crate) struct Signer {
    pub(crate) issuer: Issuer<'static, KeyPair>,
    /// This certificate first, then what leads to the root, without the root.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

impl Signer {
    /// Whether the signer should be replaced: a third of its life is left.
    pub(crate) fn is_ending(&self, now: SystemTime) -> bool {
        let life = self.not_after.duration_since(self.not_before).unwrap_or_default();
        self.not_after.duration_since(now).unwrap_or_default() < life / 3
    }

    /// A leaf for `id`, with the key of `key`. Never outlives the signer.
    pub(crate) fn leaf(
        &self,
        key: &impl PublicKeyData,
        id: &SpiffeId,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<(CertificateDer<'static>, SystemTime), IssueError> {
        let (not_before, not_after) = leaf_life(self.not_after, ttl, now)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(id.as_str().try_into()?)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        set_life(&mut params, not_before, not_after);
        let leaf = params.signed_by(key, &self.issuer)?;
        Ok((leaf.into(), not_after))
    }
}

/// From when and until when a leaf that is issued now is valid. Never outlives its issuer.
///
/// # Errors
/// When the issuer is almost over.
pub fn leaf_life(
    issuer_not_after: SystemTime,
    ttl: Duration,
    now: SystemTime,
) -> Result<(SystemTime, SystemTime), IssueError> {
    let not_after = (now + ttl).min(issuer_not_after);
    // A leaf that is over before it can be renewed helps nobody and hides that the issuer is ending.
    if not_after.duration_since(now).unwrap_or_default() < ttl.min(SHORTEST_CLAMPED) {
        return Err(IssueError::IssuerEnding(issuer_not_after));
    }
    Ok((back_dated(now, not_after), not_after))
}

/// A new root of a trust domain: certificate and key.
pub(crate) fn new_root(
    trust_domain: &TrustDomain,
    now: SystemTime,
) -> Result<(CertificateDer<'static>, KeyPair), rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let params = ca_params(trust_domain, "root", BasicConstraints::Constrained(1), now, now + ROOT_LIFE)?;
    Ok((params.self_signed(&key)?.into(), key))
}

/// A new issuing certificate, signed by the root: certificate and key.
pub(crate) fn new_issuing(
    trust_domain: &TrustDomain,
    root: &Signer,
    now: SystemTime,
) -> Result<(CertificateDer<'static>, KeyPair), rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let not_after = (now + ISSUING_LIFE).min(root.not_after);
    let mut params = ca_params(trust_domain, "issuing", BasicConstraints::Constrained(0), now, not_after)?;
    params.use_authority_key_identifier_extension = true;
    Ok((params.signed_by(&key, &root.issuer)?.into(), key))
}

fn ca_params(
    trust_domain: &TrustDomain,
    what: &str,
    constraints: BasicConstraints,
    now: SystemTime,
    not_after: SystemTime,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Weft");
    // A name of its own for each: verifiers find issuers by name, and two roots overlap while they rotate.
    let name = format!("weft {what} {:08x}", rand::random::<u32>());
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = vec![SanType::URI(format!("spiffe://{trust_domain}").try_into()?)];
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_life(&mut params, back_dated(now, not_after), not_after);
    Ok(params)
}

/// When a certificate for the time from `now` begins: earlier, for clocks that are behind.
fn back_dated(now: SystemTime, not_after: SystemTime) -> SystemTime {
    let life = not_after.duration_since(now).unwrap_or_default();
    now - (life / BACK_DATED_PART).clamp(SHORTEST_BACK_DATED, LONGEST_BACK_DATED)
}

pub(crate) fn set_life(params: &mut CertificateParams, not_before: SystemTime, not_after: SystemTime) {
    params.not_before = OffsetDateTime::from(not_before);
    params.not_after = OffsetDateTime::from(not_after);
    let mut serial: [u8; 16] = rand::random();
    // Positive and of full length, whatever was drawn (RFC 5280, 4.1.2.2).
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
}

/// Certificates begin in the past, for clocks that are behind or are set back: this part of their life …
const BACK_DATED_PART: u32 = 20;
/// … but at least so much, …
const SHORTEST_BACK_DATED: Duration = Duration::from_secs(10);
/// … and at most a step of an hour with some minutes to spare.
const LONGEST_BACK_DATED: Duration = Duration::from_secs(65 * 60);
const DAY: Duration = Duration::from_secs(86_400);
const ROOT_LIFE: Duration = Duration::from_secs(3650 * DAY.as_secs());
const ISSUING_LIFE: Duration = Duration::from_secs(365 * DAY.as_secs());
const SHORTEST_CLAMPED: Duration = Duration::from_secs(600);
