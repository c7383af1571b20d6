//! Certificates for tests: an authority in memory that signs whatever it is asked, also what it should not.
//!
//! Behind the feature `testkit`. Panics where a test would.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::{Duration, OffsetDateTime};
use weft_model::TrustDomain;

use crate::{Svid, TrustBundle, TrustBundles};

/// A root with its key.
#[derive(Debug)]
pub struct TestAuthority {
    trust_domain: TrustDomain,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl TestAuthority {
    /// A new root of this trust domain. Two of the same domain have different keys.
    pub fn new(trust_domain: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "test root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = vec![uri(&format!("spiffe://{trust_domain}"))];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { trust_domain: trust_domain.parse().unwrap(), issuer }
    }

    /// An SVID of a path of this domain, valid from an hour ago for a day.
    pub fn svid(&self, path: &str) -> Svid {
        let (chain, key) = self.sign(leaf_params(&format!("spiffe://{}{path}", self.trust_domain)));
        Svid::from_der(chain, key).unwrap()
    }

    /// A chain and key of any parameters.
    pub fn sign(&self, params: CertificateParams) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        (vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
    }

    /// A leaf of `params` for the public key of a request (DER), as a CA issues it.
    pub fn certify(&self, csr: &[u8], params: CertificateParams) -> CertificateDer<'static> {
        let request = CertificateSigningRequestParams::from_der(&csr.to_vec().into()).unwrap();
        params.signed_by(&request.public_key, &self.issuer).unwrap().der().clone()
    }

    /// The root, as this domain's bundle.
    pub fn bundle(&self) -> TrustBundle {
        TrustBundle { trust_domain: self.trust_domain.clone(), roots: vec![self.issuer.der().clone()] }
    }

    /// The bundle alone in its collection.
    pub fn bundles(&self) -> TrustBundles {
        TrustBundles::from_iter([self.bundle()])
    }
}

/// The parameters of a leaf that keeps the profile; tests break them.
pub fn leaf_params(id: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names = vec![uri(id)];
    params.not_before = OffsetDateTime::now_utc() - Duration::HOUR;
    params.not_after = OffsetDateTime::now_utc() + Duration::DAY;
    params
}

/// A URI name.
pub fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}
