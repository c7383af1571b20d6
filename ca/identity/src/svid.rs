//! An SVID: a certificate chain, its private key and the id that it proves. Exists only if the profile holds and
//! the key is the certificate's.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use weft_model::SpiffeId;

use crate::pem::{certificates_from_pem, certificates_to_pem, key_from_pem, key_to_pem};
use crate::profile::{self, InvalidSvid};
use crate::provider::crypto_provider;

/// A workload's own certificate chain and private key.
pub struct Svid {
    id: SpiffeId,
    key: PrivateKeyDer<'static>,
    not_before: SystemTime,
    not_after: SystemTime,
    certified: CertifiedKey,
    resolver: Arc<SingleCertAndKey>,
}

impl Svid {
    /// An SVID of a chain, leaf first, and the leaf's private key (PKCS#8, SEC1 or PKCS#1).
    ///
    /// # Errors
    /// When the leaf breaks the X509-SVID profile or the key is not the leaf's.
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, InvalidSvid> {
        let leaf = profile::parse(chain.first().ok_or(InvalidSvid::NoCertificate)?)?;
        let id = profile::check(&leaf)?;
        let validity = leaf.validity();
        let not_before = system_time(validity.not_before.timestamp());
        let not_after = system_time(validity.not_after.timestamp());
        let certified = CertifiedKey::from_der(chain, key.clone_key(), &crypto_provider())
            .map_err(|error| InvalidSvid::Key(error.to_string()))?;
        let resolver = Arc::new(SingleCertAndKey::from(certified.clone()));
        Ok(Self { id, key, not_before, not_after, certified, resolver })
    }

    /// An SVID of PEM text: the chain, leaf first, and one private key, in any order of key and chain.
    ///
    /// # Errors
    /// When it is not such PEM, or as [`Svid::from_der`].
    pub fn from_pem(text: &str) -> Result<Self, InvalidSvid> {
        let chain =
            certificates_from_pem(text).map_err(|error| InvalidSvid::Unreadable(error.to_string()))?;
        let key = key_from_pem(text).map_err(|error| InvalidSvid::Key(error.to_string()))?;
        Self::from_der(chain, key)
    }

    /// The chain and the private key as PEM: one text, so that a file of it is replaced as one.
    pub fn to_pem(&self) -> String {
        format!("{}{}", certificates_to_pem(self.chain()), key_to_pem(&self.key))
    }

    /// The id that it proves.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The chain, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// The leaf's private key.
    pub fn key(&self) -> &PrivateKeyDer<'static> {
        &self.key
    }

    /// From when the leaf is valid.
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// Until when the leaf is valid.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    pub(crate) fn resolver(&self) -> Arc<SingleCertAndKey> {
        Arc::clone(&self.resolver)
    }
}

impl fmt::Debug for Svid {
    /// Without the key: debug output ends in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Svid")
            .field("id", &self.id)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

fn system_time(unix_seconds: i64) -> SystemTime {
    // A certificate can say a year before 1970; for every use here that is the same as 1970.
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(unix_seconds).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::{TestAuthority, leaf_params};

    #[test]
    fn an_svid_survives_its_pem_form() {
        let svid = TestAuthority::new("weft.test").svid("/ns/shop/sa/web");
        let again = Svid::from_pem(&svid.to_pem()).unwrap();
        assert_eq!(again.id().as_str(), "spiffe://weft.test/ns/shop/sa/web");
        assert_eq!(again.chain(), svid.chain());
        assert_eq!(again.not_after(), svid.not_after());
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let authority = TestAuthority::new("weft.test");
        let (chain, _) = authority.sign(leaf_params("spiffe://weft.test/a"));
        let (_, other_key) = authority.sign(leaf_params("spiffe://weft.test/a"));
        assert!(matches!(Svid::from_der(chain, other_key), Err(InvalidSvid::Key(_))));
    }

    #[test]
    fn pem_without_a_key_is_refused() {
        let svid = TestAuthority::new("weft.test").svid("/a");
        let text = certificates_to_pem(svid.chain());
        assert!(matches!(Svid::from_pem(&text), Err(InvalidSvid::Key(_))));
    }

    #[test]
    fn debug_output_holds_no_key() {
        let svid = TestAuthority::new("weft.test").svid("/a");
        let text = format!("{svid:?}");
        assert!(text.contains("spiffe://weft.test/a") && !text.to_lowercase().contains("key"), "{text}");
    }
}
