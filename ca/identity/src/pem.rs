//! PEM text of certificates and keys. Reading is rustls-pki-types'; it skips what is between the blocks, so stray
//! whitespace and comments in a bundle do no harm.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Why a text is not the PEM that was wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPem {
    /// No block of the wanted kind.
    #[error("there is no {0} block in the PEM text")]
    Missing(&'static str),
    /// A block is damaged.
    #[error("damaged PEM: {0}")]
    Damaged(String),
    /// More than one private key: it would be a guess which one is meant.
    #[error("there is more than one private key in the PEM text")]
    SeveralKeys,
}

/// All certificates of a PEM text, in its order; at least one.
///
/// # Errors
/// When there is none, or the text is damaged.
pub fn certificates_from_pem(text: &str) -> Result<Vec<CertificateDer<'static>>, InvalidPem> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match certificates.map_err(|error| InvalidPem::Damaged(error.to_string()))? {
        none if none.is_empty() => Err(InvalidPem::Missing("CERTIFICATE")),
        certificates => Ok(certificates),
    }
}

/// The private key of a PEM text (PKCS#8, SEC1 or PKCS#1, unencrypted); exactly one.
///
/// # Errors
/// When there is none, or more than one, or the text is damaged.
pub fn key_from_pem(text: &str) -> Result<PrivateKeyDer<'static>, InvalidPem> {
    let mut keys = PrivateKeyDer::pem_slice_iter(text.as_bytes());
    let damaged = |error: rustls_pki_types::pem::Error| InvalidPem::Damaged(error.to_string());
    let key = keys.next().ok_or(InvalidPem::Missing("PRIVATE KEY"))?.map_err(damaged)?;
    match keys.next() {
        None => Ok(key),
        Some(_) => Err(InvalidPem::SeveralKeys),
    }
}

/// Certificates as PEM, in the given order.
pub fn certificates_to_pem<'a>(certificates: impl IntoIterator<Item = &'a CertificateDer<'a>>) -> String {
    certificates.into_iter().map(|certificate| block("CERTIFICATE", certificate)).collect()
}

/// A private key as PEM. Not encrypted: the file's mode is what protects it.
pub fn key_to_pem(key: &PrivateKeyDer<'_>) -> String {
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    block(label, key.secret_der())
}

fn block(label: &str, der: &[u8]) -> String {
    // RFC 7468: lines of 64 characters, and 48 bytes give 64.
    let body: String = der.chunks(48).map(|line| STANDARD.encode(line) + "\n").collect();
    format!("-----BEGIN {label}-----\n{body}-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::TestAuthority;

    #[test]
    fn certificates_survive_stray_text_and_whitespace() {
        let authority = TestAuthority::new("weft.test");
        let roots = authority.bundle().roots;
        let text = format!("# our root\n\n{}\n  \n", certificates_to_pem(&roots));
        assert_eq!(certificates_from_pem(&text).unwrap(), roots);
    }

    #[test]
    fn missing_and_doubled_blocks_are_named() {
        let key = key_to_pem(TestAuthority::new("weft.test").svid("/a").key());
        assert_eq!(certificates_from_pem(&key), Err(InvalidPem::Missing("CERTIFICATE")));
        assert_eq!(key_from_pem(""), Err(InvalidPem::Missing("PRIVATE KEY")));
        assert_eq!(key_from_pem(&(key.clone() + &key)), Err(InvalidPem::SeveralKeys));
        let damaged = key.replace("-----END", "??-----END");
        assert!(matches!(key_from_pem(&damaged), Err(InvalidPem::Damaged(_) | InvalidPem::Missing(_))));
    }
}
