//! A workload identity token as bytes: its form, its header, its signature. What it claims is read only after a key has
//! vouched for it (`claims.rs`).
//!
//! A JSON web signature in its compact form (RFC 7515), by the two algorithms that Nomad signs with and no other. Verified here
//! and not by a library for JWTs: what those add are algorithms that must be off, and rules that we have stricter.

use std::fmt;

use aws_lc_rs::signature::{ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use weft_registry_nomad::attest::SigningKey;

use super::refusal::{NomadRefusal, shown};

/// How Nomad signs: RS256 since 1.7, EdDSA with keyrings of older ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Rs256,
    EdDsa,
}

/// A token that nobody has vouched for.
pub(super) struct Token<'a> {
    /// Header and payload, as they were signed.
    signed: &'a str,
    payload: &'a str,
    signature: Vec<u8>,
    algorithm: Algorithm,
    kid: String,
}

/// RFC 7515, 4.1. Where the key could be had is of no interest: it comes from the region and from nowhere else.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    /// Extensions that must be understood; there are none that we do.
    crit: Option<serde::de::IgnoredAny>,
}

/// A public key of a region.
pub(super) enum Key {
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    Ed25519(Vec<u8>),
}

impl<'a> Token<'a> {
    /// Looks at the form and the header.
    pub(super) fn read(text: &'a str) -> Result<Self, NomadRefusal> {
        let none = NomadRefusal::NotAToken;
        if text.len() > LONGEST_TOKEN {
            return Err(none("it has more than 16 KiB"));
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(none("three parts were expected"))?;
        let (header, payload) = signed.split_once('.').ok_or(none("three parts were expected"))?;
        if payload.contains('.') {
            return Err(none("three parts were expected"));
        }
        let header = decoded(header).ok_or(none("its header is not base64url"))?;
        let header: Header =
            serde_json::from_slice(&header).map_err(|_| none("its header is no header of a JWT"))?;
        if header.crit.is_some() || header.typ.is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT")) {
            return Err(none("its header has a crit or another typ than JWT"));
        }
        let algorithm = match header.alg.as_str() {
            "RS256" => Algorithm::Rs256,
            "EdDSA" => Algorithm::EdDsa,
            other => return Err(NomadRefusal::Algorithm(shown(other))),
        };
        let kid = header.kid.filter(|kid| !kid.is_empty()).ok_or(none("its header names no key (kid)"))?;
        let signature = decoded(signature).ok_or(none("its signature is not base64url"))?;
        Ok(Self { signed, payload, signature, algorithm, kid })
    }

    /// The name of the key that is said to have signed it.
    pub(super) fn kid(&self) -> &str {
        &self.kid
    }

    /// The payload, if `key` signed it. The key says by which algorithm: a header can't make one of another.
    pub(super) fn verified(&self, key: &Key) -> Result<Vec<u8>, NomadRefusal> {
        let (signed, signature) = (self.signed.as_bytes(), &self.signature);
        let good = match (key, self.algorithm) {
            (Key::Rsa(key), Algorithm::Rs256) => key.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature),
            (Key::Ed25519(key), Algorithm::EdDsa) => {
                UnparsedPublicKey::new(&ED25519, key).verify(signed, signature)
            }
            _ => return Err(NomadRefusal::Signature(shown(&self.kid))),
        };
        good.map_err(|_| NomadRefusal::Signature(shown(&self.kid)))?;
        decoded(self.payload).ok_or(NomadRefusal::NotAToken("its payload is not base64url"))
    }
}

impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({:?})", self.kid)
    }
}

impl Key {
    /// The key, if it is one of a kind that Nomad signs with; all others are of no use here.
    pub(super) fn read(key: &SigningKey) -> Option<Self> {
        let signs = key.usage.is_empty() || key.usage == "sig";
        let is_for = |algorithm| key.alg.is_empty() || key.alg == algorithm;
        match key.kty.as_str() {
            "RSA" if signs && is_for("RS256") => {
                Some(Self::Rsa(RsaPublicKeyComponents { n: decoded(&key.n)?, e: decoded(&key.e)? }))
            }
            "OKP" if signs && is_for("EdDSA") && key.crv == "Ed25519" => {
                Some(Self::Ed25519(decoded(&key.x)?))
            }
            _ => None,
        }
    }
}

/// Without padding, and in the one way in which it can be written.
fn decoded(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Real ones have 0.8 kB, and some more with long names.
const LONGEST_TOKEN: usize = 16 * 1024;
