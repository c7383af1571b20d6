//! `/v1/tokens`: join tokens. Served on the Unix socket only, since whoever makes one can become that identity.

use serde::{Deserialize, Serialize};

/// `POST /v1/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// The one identity it is good for: `namespace/service-account` or a whole SPIFFE id of the mesh's trust domain.
    pub identity: String,
    /// For how long it can be used.
    pub ttl_seconds: u64,
}

/// The answer: the only time that the token itself is seen.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCreated {
    /// The secret to hand to the proxy.
    pub token: String,
    /// What is kept of it.
    #[serde(flatten)]
    pub view: TokenView,
}

/// What became of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenState {
    /// It can be used.
    Unused,
    /// It was used.
    Used,
    /// It was not used in time.
    Expired,
}

impl TokenState {
    /// The name, as it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unused => "unused",
            Self::Used => "used",
            Self::Expired => "expired",
        }
    }
}

/// A token without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenView {
    /// Names it in `weft token revoke`.
    pub id: String,
    /// The identity it is good for.
    pub identity: String,
    /// Until when.
    pub expires_unix_ms: u64,
    /// What became of it.
    pub state: TokenState,
}
