//! `/v1/ca`: the roots, and the replacement of one. Changed on the Unix socket only.

use serde::{Deserialize, Serialize};

use crate::RootView;

/// `POST /v1/ca/rotation`: begins the replacement of the root, or hastens the one under way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// Take the next step of the one under way without waiting for what it waits for.
    #[serde(default)]
    pub force: bool,
}

/// How far a root's replacement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RotationPhase {
    /// None is under way.
    None,
    /// Both roots are trusted, the old one signs.
    Announced,
    /// Both roots are trusted, the new one signs.
    Switched,
    /// The old root is out.
    Retired,
}

impl RotationPhase {
    /// The name, as it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Announced => "announced",
            Self::Switched => "switched",
            Self::Retired => "retired",
        }
    }
}

/// `GET /v1/ca`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaView {
    /// The root that signs now: what new join tokens pin.
    pub signing_root_sha256: String,
    /// All roots that are trusted.
    pub roots: Vec<RootView>,
    /// How far the replacement is.
    pub rotation: RotationPhase,
    /// Since when it is in this phase.
    pub since_unix_ms: Option<u64>,
    /// When its next step can be at the earliest.
    pub next_step_unix_ms: Option<u64>,
    /// Connected proxies that have not acknowledged the bundle with both roots: the next step waits for them.
    pub not_acknowledged: Vec<String>,
}
