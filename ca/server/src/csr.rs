//! A certificate signing request, read for two things: a public key with proof that the caller holds its private
//! key, and the URI it names, if any. What would make a certificate more than an SVID (a CA, names of hosts, a second
//! URI) is refused, since no honest client asks for it; everything else is ignored: it is the caller's wish, not a fact.

use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData, SignatureAlgorithm};
use weft_model::SpiffeId;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension, SubjectAlternativeName};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_PKCS1_RSAENCRYPTION, OID_PKCS1_SHA256WITHRSA,
    OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384,
    OID_SIG_ECDSA_WITH_SHA512, OID_SIG_ED25519, Oid,
};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Why a request can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCsr {
    /// Longer than any honest one.
    #[error("the request has {0} bytes; at most {MAX_BYTES} are allowed")]
    TooLong(usize),
    /// Not DER of PKCS#10.
    #[error("the request is not DER of PKCS#10: {0}")]
    Unreadable(String),
    /// A key that is not issued for.
    #[error("the request's key is {0}; expected ECDSA P-256, Ed25519, or RSA of 2048 to 8192 bits")]
    Key(String),
    /// The caller does not prove that it holds the private key.
    #[error("the request's signature does not match its key, or is of an algorithm that proves nothing")]
    Signature,
    /// What no SVID has.
    #[error("the request asks for {0}, which no SVID has")]
    Asks(&'static str),
    /// The caller wants to be somebody else than was attested.
    #[error("the request names {asked}, but {attested} was attested")]
    OtherId {
        /// What the request names.
        asked: String,
        /// Who the caller is.
        attested: SpiffeId,
    },
}

/// A request whose signature was verified.
#[derive(Debug, Clone)]
pub struct Csr {
    algorithm: &'static SignatureAlgorithm,
    key: Vec<u8>,
    uris: Vec<String>,
}

impl Csr {
    /// Reads PKCS#10 DER, checks the kind of key and the signature.
    ///
    /// # Errors
    /// Which of these fails.
    pub fn from_der(der: &[u8]) -> Result<Self, InvalidCsr> {
        if der.len() > MAX_BYTES {
            return Err(InvalidCsr::TooLong(der.len()));
        }
        let request = match X509CertificationRequest::from_der(der) {
            Ok(([], request)) => request,
            Ok(_) => return Err(InvalidCsr::Unreadable("bytes follow it".to_owned())),
            Err(error) => return Err(InvalidCsr::Unreadable(error.to_string())),
        };
        let key = &request.certification_request_info.subject_pki;
        // Before the signature: verifying with a key of 100,000 bits would keep a core busy.
        let algorithm = key_algorithm(key)?;
        // The library verifies SHA-1 too, with which a signature of one text can be moved to another.
        if !SIGNATURES.contains(&request.signature_algorithm.algorithm) {
            return Err(InvalidCsr::Signature);
        }
        request.verify_signature().map_err(|_| InvalidCsr::Signature)?;
        let uris = requested_uris(&request)?;
        Ok(Self { algorithm, key: key.subject_public_key.data.to_vec(), uris })
    }

    /// Refuses if the request names another URI than the attested id.
    ///
    /// # Errors
    /// With both names.
    pub fn check_id(&self, attested: &SpiffeId) -> Result<(), InvalidCsr> {
        match self.uris.iter().find(|uri| uri.as_str() != attested.as_str()) {
            None => Ok(()),
            Some(other) => Err(InvalidCsr::OtherId { asked: other.clone(), attested: attested.clone() }),
        }
    }
}

impl PublicKeyData for Csr {
    fn der_bytes(&self) -> &[u8] {
        &self.key
    }
    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

fn key_algorithm(key: &SubjectPublicKeyInfo<'_>) -> Result<&'static SignatureAlgorithm, InvalidCsr> {
    let algorithm = &key.algorithm.algorithm;
    if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
        return match curve {
            Some(curve) if curve == OID_EC_P256 => Ok(&PKCS_ECDSA_P256_SHA256),
            Some(curve) => Err(InvalidCsr::Key(format!("on the elliptic curve {curve}"))),
            None => Err(InvalidCsr::Key("on an elliptic curve without a name".to_owned())),
        };
    }
    if *algorithm == OID_SIG_ED25519 {
        return Ok(&PKCS_ED25519);
    }
    if *algorithm != OID_PKCS1_RSAENCRYPTION {
        return Err(InvalidCsr::Key(format!("of algorithm {algorithm}")));
    }
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) if (2048..=8192).contains(&rsa.key_size()) => Ok(&PKCS_RSA_SHA256),
        Ok(PublicKey::RSA(rsa)) => Err(InvalidCsr::Key(format!("RSA of {} bits", rsa.key_size()))),
        _ => Err(InvalidCsr::Key("RSA that can't be read".to_owned())),
    }
}

fn requested_uris(request: &X509CertificationRequest<'_>) -> Result<Vec<String>, InvalidCsr> {
    let mut uris = Vec::new();
    for extension in request.requested_extensions().into_iter().flatten() {
        match extension {
            ParsedExtension::BasicConstraints(constraints) if constraints.ca => {
                return Err(InvalidCsr::Asks("a CA certificate"));
            }
            ParsedExtension::KeyUsage(usage) if usage.key_cert_sign() || usage.crl_sign() => {
                return Err(InvalidCsr::Asks("a key that signs certificates"));
            }
            ParsedExtension::SubjectAlternativeName(names) => uris.extend(only_uris(names)?),
            _ => {}
        }
    }
    // X509-SVID 2: exactly one.
    if uris.len() > 1 {
        return Err(InvalidCsr::Asks("several URI names"));
    }
    Ok(uris)
}

fn only_uris(names: &SubjectAlternativeName<'_>) -> Result<Vec<String>, InvalidCsr> {
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Ok((*uri).to_owned()),
        GeneralName::DNSName(_) => Err(InvalidCsr::Asks("a DNS name")),
        GeneralName::IPAddress(_) => Err(InvalidCsr::Asks("an IP address")),
        _ => Err(InvalidCsr::Asks("a name that is no URI")),
    };
    names.general_names.iter().map(uri).collect()
}

/// What may sign a request.
const SIGNATURES: [Oid<'static>; 7] = [
    OID_SIG_ECDSA_WITH_SHA256,
    OID_SIG_ECDSA_WITH_SHA384,
    OID_SIG_ECDSA_WITH_SHA512,
    OID_SIG_ED25519,
    OID_PKCS1_SHA256WITHRSA,
    OID_PKCS1_SHA384WITHRSA,
    OID_PKCS1_SHA512WITHRSA,
];

// An RSA-8192 request with a long name has about 2.5 kB.
const MAX_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests;
