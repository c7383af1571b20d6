//! Issuing certificates that a root was seen to vouch for: a trust domain has one or two, and each of its leaves comes
//! with one. The root's signature on it is checked once, and not at each handshake.
//!
//! Only that check is kept, and only for the bundle and the usage that it was made with, while the issuing certificate
//! itself is valid. The leaf's signature, time and usage are checked each time. A known issuer admits nothing that the
//! whole chain would not, so what fails here is checked in full and refused for the reason found there.

use std::sync::{Arc, PoisonError, RwLock};

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{VerifiedPath, anchor_from_trusted_cert};

use crate::profile;
use crate::verify::Role;

/// The known issuers of one bundle.
#[derive(Debug, Default)]
pub(crate) struct Issuers(RwLock<Vec<Arc<Issuer>>>);

/// An issuing certificate under a root of the bundle.
#[derive(Debug)]
pub(crate) struct Issuer {
    certificate: CertificateDer<'static>,
    role: Role,
    not_before: u64,
    not_after: u64,
    /// The same certificate, in the form that leaves are held against.
    pub(crate) anchor: TrustAnchor<'static>,
}

impl Issuers {
    /// The issuer that a chain names as its leaf's, where it is known and valid now.
    pub(crate) fn of(&self, chain: &[CertificateDer<'_>], now: UnixTime, role: Role) -> Option<Arc<Issuer>> {
        let named = chain.get(1)?;
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let valid = |issuer: &&Arc<Issuer>| (issuer.not_before..=issuer.not_after).contains(&now.as_secs());
        known.iter().filter(valid).find(|issuer| issuer.role == role && issuer.certificate == *named).cloned()
    }

    /// Remembers the issuer of a path that was verified, if it is the only certificate between leaf and root.
    pub(crate) fn learn(&self, path: &VerifiedPath<'_>, role: Role) {
        let mut between = path.intermediate_certificates();
        let (Some(issuing), None) = (between.next(), between.next()) else { return };
        // A root with name constraints speaks of leaves too; such chains are checked in full.
        if path.anchor().name_constraints.is_some() {
            return;
        }
        let Some(issuer) = Issuer::new(&issuing.der(), role) else { return };
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.iter().any(|other| other.role == role && other.certificate == issuer.certificate) {
            return;
        }
        if known.len() >= MOST {
            known.remove(0);
        }
        known.push(Arc::new(issuer));
    }
}

impl Issuer {
    fn new(certificate: &CertificateDer<'_>, role: Role) -> Option<Self> {
        let validity = profile::parse(certificate).ok()?.validity().clone();
        Some(Self {
            not_before: u64::try_from(validity.not_before.timestamp()).ok()?,
            not_after: u64::try_from(validity.not_after.timestamp()).ok()?,
            anchor: anchor_from_trusted_cert(certificate).ok()?.to_owned(),
            certificate: certificate.clone().into_owned(),
            role,
        })
    }
}

/// The old and the new issuing certificate of the old and the new root, in both roles.
const MOST: usize = 8;

#[cfg(test)]
mod tests;
