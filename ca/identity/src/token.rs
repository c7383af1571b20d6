//! A join token as text: `weft1.<id>.<secret>.<root pin>`.
//!
//! It holds the pin of the control plane's root, so that a joining proxy needs no CA file: what proves the proxy to the
//! CA proves the CA to the proxy. Issuing and redeeming are weft-ca's part.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::pin::RootPin;

/// A single-use token to join the mesh. `Display` shows the secret, `Debug` does not.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    id: String,
    secret: [u8; 32],
    pin: RootPin,
}

/// Why a text is not a join token. Does not repeat the text: it may be a secret with a typing error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a join token: {0}; expected weft1.<id>.<secret>.<root pin> as `token create` printed it")]
pub struct InvalidToken(&'static str);

impl JoinToken {
    /// A new token with a random id and secret, for a control plane with this root.
    pub fn random(pin: RootPin) -> Self {
        Self { id: hex::encode(rand::random::<[u8; 8]>()), secret: rand::random(), pin }
    }

    /// Names the token in lists and logs; not secret. 16 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The root that the control plane must have.
    pub fn pin(&self) -> RootPin {
        self.pin
    }

    /// The SHA-256 of the secret: what the CA stores. The secret has 256 random bits, so it needs no slow hash.
    pub fn secret_hash(&self) -> [u8; 32] {
        Sha256::digest(self.secret).into()
    }
}

impl FromStr for JoinToken {
    type Err = InvalidToken;
    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let mut parts = text.trim().split('.');
        let mut next = |what| parts.next().ok_or(InvalidToken(what));
        if next("it is empty")? != "weft1" {
            return Err(InvalidToken("it does not start with weft1"));
        }
        let id = next("the id is missing")?;
        // Strict, since the id becomes a file name at the CA.
        if id.len() != 16 || !id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(InvalidToken("the id is not 16 hexadecimal digits"));
        }
        let secret = URL_SAFE_NO_PAD.decode(next("the secret is missing")?).ok();
        let secret = secret
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(InvalidToken("the secret is not 32 bytes"))?;
        let pin = next("the root pin is missing")?
            .parse()
            .map_err(|_| InvalidToken("the root pin is not 64 digits"))?;
        match parts.next() {
            None => Ok(Self { id: id.to_owned(), secret, pin }),
            Some(_) => Err(InvalidToken("something follows the root pin")),
        }
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weft1.{}.{}.{}", self.id, URL_SAFE_NO_PAD.encode(self.secret), self.pin)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken::random("ab".repeat(32).parse().unwrap())
    }

    #[test]
    fn a_token_survives_its_text_form_and_a_line_end() {
        let token = token();
        assert_eq!(format!("{token}\n").parse(), Ok(token.clone()));
        assert_ne!(token.secret_hash(), self::token().secret_hash());
    }

    #[test]
    fn what_is_damaged_is_named_and_not_repeated() {
        let text = token().to_string();
        let parts: Vec<_> = text.split('.').collect();
        let cut = |count: usize| parts[..count].join(".");
        let cases = [
            (String::new(), "weft1"),
            (cut(1), "id"),
            (cut(2), "secret"),
            (cut(3), "pin"),
            (format!("{text}.x"), "follows"),
            (text.replace(parts[1], "../../etc/passwd"), "id"),
            (text.replace(parts[2], "AAAA"), "secret"),
        ];
        for (bad, word) in cases {
            let error = bad.parse::<JoinToken>().expect_err(&bad).to_string();
            assert!(error.contains(word) && !error.contains(parts[2]), "{bad}: {error}");
        }
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let token = token();
        assert_eq!(format!("{token:?}"), format!("JoinToken({})", token.id()));
    }
}
