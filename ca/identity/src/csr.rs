//! A new private key and the request to certify it. Keys are made where they are used and never travel.

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls_pki_types::PrivatePkcs8KeyDer;
use weft_model::SpiffeId;

/// Why there is no key or request.
#[derive(Debug, thiserror::Error)]
#[error("making a private key and a certificate signing request")]
pub struct KeyError(#[from] rcgen::Error);

/// A new P-256 key and a PKCS#10 request (DER) for it. `id` goes into the request where it is known already: the CA
/// refuses if it differs from what it attested, which shows a wrong token or registration at once.
///
/// # Errors
/// When the provider has no randomness.
pub fn new_key_and_csr(id: Option<&SpiffeId>) -> Result<(PrivatePkcs8KeyDer<'static>, Vec<u8>), KeyError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if let Some(id) = id {
        params.subject_alt_names = vec![SanType::URI(id.as_str().try_into()?)];
    }
    let csr = params.serialize_request(&key)?.der().to_vec();
    Ok((PrivatePkcs8KeyDer::from(key.serialize_der()), csr))
}

#[cfg(test)]
mod tests {
    use rcgen::CertificateSigningRequestParams;

    use super::*;

    #[test]
    fn a_request_proves_its_key_and_names_the_id_that_is_known() {
        let id: SpiffeId = "spiffe://weft.test/ns/shop/sa/web".parse().unwrap();
        let (key, csr) = new_key_and_csr(Some(&id)).unwrap();
        let request = CertificateSigningRequestParams::from_der(&csr.into()).unwrap();
        assert_eq!(request.params.subject_alt_names, [SanType::URI(id.as_str().try_into().unwrap())]);
        let pair = KeyPair::try_from(&key).unwrap();
        assert_eq!(rcgen::PublicKeyData::der_bytes(&request.public_key), pair.public_key_raw());
    }

    #[test]
    fn a_request_without_an_id_names_nothing() {
        let (_, csr) = new_key_and_csr(None).unwrap();
        let request = CertificateSigningRequestParams::from_der(&csr.into()).unwrap();
        assert!(request.params.subject_alt_names.is_empty());
    }
}
