//! The certificate of a plain HTTPS server of the control plane's own: what Kubernetes' API server calls by DNS name.
//!
//! It chains to the mesh's roots and is no SVID: it has DNS names and no SPIFFE id, so that no proxy ever takes who shows
//! it for anybody. It is made here and for this process only; nobody can ask for one.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::authority::Authority;
use crate::issuing::{IssueError, leaf_life, set_life};

/// A serving certificate with its key, as rustls takes it.
#[derive(Debug, Clone)]
pub struct Serving {
    /// For a certificate resolver.
    pub key: Arc<CertifiedKey>,
    /// Its end.
    pub not_after: SystemTime,
}

impl Authority {
    /// A certificate for these DNS names.
    ///
    /// # Errors
    /// When a name is none, or the issuing certificate is ending.
    pub fn issue_serving(&self, names: &[String], now: SystemTime) -> Result<Serving, IssueError> {
        let signer = self.issuer();
        let (not_before, not_after) = leaf_life(signer.not_after, self.leaf_ttl(), now)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let leaf = params(names, not_before, not_after)?.signed_by(&key, &signer.issuer)?;
        let chain = std::iter::once(leaf.into()).chain(signer.chain.iter().cloned()).collect();
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der)
            .map_err(|_| rcgen::Error::UnsupportedSignatureAlgorithm)?;
        Ok(Serving { key: Arc::new(CertifiedKey::new(chain, key)), not_after })
    }
}

fn params(
    names: &[String],
    not_before: SystemTime,
    not_after: SystemTime,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let names = names.iter().map(|name| Ok(SanType::DnsName(name.as_str().try_into()?)));
    params.subject_alt_names = names.collect::<Result<_, rcgen::Error>>()?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    set_life(&mut params, not_before, not_after);
    Ok(params)
}

impl Serving {
    /// When it should be replaced: at half of the time that was left at `issued`.
    pub fn renew_at(&self, issued: SystemTime) -> SystemTime {
        let left = self.not_after.duration_since(issued).unwrap_or(Duration::ZERO);
        issued + left / 2
    }
}

#[cfg(test)]
mod tests {
    use weft_identity::TrustBundles;
    use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

    use super::*;
    use crate::AuthoritySettings;

    fn authority() -> (tempfile::TempDir, Authority) {
        let temporary = tempfile::tempdir().unwrap();
        let settings = AuthoritySettings::new("weft.test".parse().unwrap(), temporary.path().join("ca"));
        let authority = Authority::open(&settings, SystemTime::now()).unwrap();
        (temporary, authority)
    }

    #[test]
    fn a_serving_certificate_has_dns_names_and_is_no_identity() {
        let (_temporary, authority) = authority();
        let names = ["weft-control.weft-system.svc".to_owned()];
        let serving = authority.issue_serving(&names, SystemTime::now()).unwrap();
        let (_, leaf) = X509Certificate::from_der(&serving.key.cert[0]).unwrap();
        let names = leaf.subject_alternative_name().unwrap().unwrap().value.general_names.clone();
        assert_eq!(names, [GeneralName::DNSName("weft-control.weft-system.svc")]);
        let usage = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.server_auth && !usage.client_auth);
        let bundles = TrustBundles::from_iter([authority.bundle()]);
        let now = rustls_pki_types::UnixTime::now();
        assert!(weft_identity::verify(&serving.key.cert, &bundles, now).is_err(), "taken for somebody");
        assert_eq!(serving.key.cert.len(), 2, "the leaf and the issuing certificate");
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        let (_temporary, authority) = authority();
        assert!(authority.issue_serving(&["näme".to_owned()], SystemTime::now()).is_err());
    }

    #[test]
    fn it_is_replaced_at_half_of_its_life() {
        let (_temporary, authority) = authority();
        let now = SystemTime::now();
        let serving = authority.issue_serving(&["a.b".to_owned()], now).unwrap();
        assert_eq!(serving.renew_at(now), now + Duration::from_hours(12));
    }
}
