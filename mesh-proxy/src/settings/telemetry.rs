//! Settings of what is remembered of requests and connections.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

/// `[access_log]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AccessLogSettings {
    /// What is logged.
    pub(crate) mode: AccessLogMode,
    /// In which form.
    pub(crate) format: AccessLogFormat,
    /// `stdout`, or the path of a file that is appended to.
    pub(crate) output: AccessLogOutput,
}

/// What is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AccessLogMode {
    /// Nothing.
    Off,
    /// What has a response flag, a status of 500 or more, or a gRPC status other than 0.
    #[default]
    Errors,
    /// Every request and connection.
    All,
}

/// The form of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AccessLogFormat {
    /// Envoy's default line, with identities and the reason behind it.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum AccessLogOutput {
    /// Standard output.
    #[default]
    Stdout,
    /// A file.
    File(PathBuf),
}

impl<'de> Deserialize<'de> for AccessLogOutput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(if text == "stdout" { Self::Stdout } else { Self::File(PathBuf::from(text)) })
    }
}

/// `[metrics]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MetricSettings {
    /// Distinct label sets of requests and connections; each costs up to 66 lines of a scrape. What
    /// comes later is counted under one series whose `destination_service` is `overflow`.
    pub(crate) max_series: usize,
}

impl Default for MetricSettings {
    fn default() -> Self {
        Self { max_series: 500 }
    }
}
