//! What the plugin prints: a result, or an error with its number (CNI specification 1.1.0, "Error" and "VERSION").

use serde_json::json;

/// The versions of the specification that are spoken.
pub(crate) const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// What is printed, and whether it is an error.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) failed: bool,
}

/// Why a command failed. The runtime shows the text as an event of the pod.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct PluginError {
    pub(crate) code: Code,
    pub(crate) text: String,
}

/// The specification's numbers, and ours above 99.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// The version of the configuration is not spoken.
    Version = 1,
    /// The environment is wrong.
    Environment = 4,
    /// Reading failed.
    Input = 5,
    /// What was read is not what it should be.
    Decode = 6,
    /// The configuration is wrong.
    Configuration = 7,
    /// It may go later.
    Later = 11,
    /// `STATUS`: pods cannot be added now.
    Unavailable = 50,
    /// The kernel refused the rules.
    Rules = 100,
    /// `CHECK`: the rules are not as wanted.
    Differs = 101,
    /// What the pod asks for cannot be.
    Pod = 102,
}

impl PluginError {
    pub(crate) fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

impl Answer {
    /// A result; `""` for the commands that have none.
    pub(crate) fn result(text: impl Into<String>) -> Self {
        Self { text: text.into(), failed: false }
    }

    /// The versions, in answer to a configuration of this one.
    pub(crate) fn versions(version: &str) -> Self {
        Self::result(json!({ "cniVersion": version, "supportedVersions": VERSIONS }).to_string())
    }

    /// An error, in answer to a configuration of this version.
    pub(crate) fn error(version: &str, error: &PluginError) -> Self {
        let text = json!({
            "cniVersion": version,
            "code": error.code as u32,
            "msg": format!("weft-cni: {}", error.text),
        });
        Self { text: text.to_string(), failed: true }
    }
}
