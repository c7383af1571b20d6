//! Durations in adapters' settings, as people write them: `#[serde(with = "weft_registry::duration")]`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de};

/// Writes `5m`.
///
/// # Errors
/// When the format refuses a string.
pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*value))
}

/// Reads `5m` or `10s`.
///
/// # Errors
/// On anything else.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text)
        .map_err(|error| de::Error::custom(format_args!("{text:?} is no duration as 5m or 10s: {error}")))
}
