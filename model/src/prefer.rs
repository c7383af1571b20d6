//! Which endpoints of a service its callers prefer, and whether they may leave their node.
//!
//! The words are Kubernetes': `trafficDistribution` and `internalTrafficPolicy` of a Service. It is the service that says
//! it, for all its callers; where it says nothing, each caller's proxy has its own setting. How a caller obeys is the
//! balancer's business.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::InvalidName;

/// What a service asks of its callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prefer {
    /// Endpoints of the caller's zone, and others where there is none: `trafficDistribution: PreferSameZone`.
    Zone,
    /// Endpoints of the caller's node, then of its zone, then others: `PreferSameNode`.
    Node,
    /// Endpoints of the caller's node and never others: `internalTrafficPolicy: Local`.
    NodeOnly,
}

impl Prefer {
    /// The word, as users write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Zone => "zone",
            Self::Node => "node",
            Self::NodeOnly => "node-only",
        }
    }
}

impl fmt::Display for Prefer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Prefer {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Ok(match text {
            "zone" => Self::Zone,
            "node" => Self::Node,
            "node-only" => Self::NodeOnly,
            _ => {
                return Err(InvalidName {
                    kind: "preference",
                    text: text.to_owned(),
                    reason: "zone, node and node-only are known".to_owned(),
                });
            }
        })
    }
}
