//! The Consul attestation's signature: what both ends must compute alike. The message binds the CA's nonce and the
//! request to certify, so that neither can be used with the other's partner.

use rustls::SignatureScheme;
use rustls_pki_types::PrivateKeyDer;
use sha2::{Digest, Sha256};

use crate::provider::crypto_provider;

/// Why the attestation could not be signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttestationError {
    /// The key can't be read or can't sign.
    #[error("signing with the Consul leaf's key")]
    Sign(#[from] rustls::Error),
    /// The key is of another kind: Consul is set to a private key type other than `ec` with 256 bits.
    #[error(
        "the Consul leaf's key is not ECDSA P-256: set private_key_type = \"ec\" and private_key_bits = 256 in Consul's Connect CA"
    )]
    NotP256,
}

/// What is signed: a name of the purpose, NUL, the nonce, the SHA-256 of the request (DER).
pub fn consul_attestation_message(nonce: &[u8], csr: &[u8]) -> Vec<u8> {
    [b"weft-consul-attestation-v1\0", nonce, Sha256::digest(csr).as_slice()].concat()
}

/// Signs that message with a Consul leaf's key: ECDSA P-256 with SHA-256, ASN.1.
///
/// # Errors
/// When the key can't be read or is of another kind.
pub fn sign_consul_attestation(
    key: &PrivateKeyDer<'_>,
    nonce: &[u8],
    csr: &[u8],
) -> Result<Vec<u8>, AttestationError> {
    let key = crypto_provider().key_provider.load_private_key(key.clone_key())?;
    let scheme = [SignatureScheme::ECDSA_NISTP256_SHA256];
    let signer = key.choose_scheme(&scheme).ok_or(AttestationError::NotP256)?;
    Ok(signer.sign(&consul_attestation_message(nonce, csr))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::TestAuthority;

    #[test]
    fn the_message_is_the_schemas() {
        let message = consul_attestation_message(b"nonce", b"");
        let empty_hash =
            hex::decode("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855").unwrap();
        assert_eq!(message, [b"weft-consul-attestation-v1\0nonce".as_slice(), &empty_hash].concat());
    }

    #[test]
    fn the_signature_is_the_keys_over_the_message() {
        let svid = TestAuthority::new("weft.test").svid("/a");
        let signature = sign_consul_attestation(svid.key(), b"nonce", b"csr").unwrap();
        let key = rcgen::KeyPair::from_pem(&crate::key_to_pem(svid.key())).unwrap();
        let ecdsa = aws_lc_p256();
        let verify = |message: &[u8]| {
            ecdsa.verify_signature(rcgen::PublicKeyData::der_bytes(&key), message, &signature)
        };
        assert!(verify(&consul_attestation_message(b"nonce", b"csr")).is_ok());
        assert!(verify(&consul_attestation_message(b"other", b"csr")).is_err());
    }

    fn aws_lc_p256() -> &'static dyn rustls_pki_types::SignatureVerificationAlgorithm {
        let mapping = crypto_provider().signature_verification_algorithms.mapping;
        let (_, algorithms) =
            mapping.iter().find(|(scheme, _)| *scheme == SignatureScheme::ECDSA_NISTP256_SHA256).unwrap();
        let p256 = rustls_pki_types::alg_id::ECDSA_P256;
        *algorithms.iter().find(|algorithm| algorithm.public_key_alg_id() == p256).unwrap()
    }

    #[test]
    fn a_key_of_another_kind_is_named() {
        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let other = PrivateKeyDer::Pkcs8(other.serialize_der().into());
        assert!(matches!(sign_consul_attestation(&other, b"n", b"c"), Err(AttestationError::NotP256)));
    }
}
