//! Durations as users write them: a number with its unit, `500ms`, `10s`, `24h`, also several, `1m 30s`.
//!
//! For `#[serde(deserialize_with = …)]`. A bare number is refused: its unit would be a guess.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// A duration.
///
/// # Errors
/// When it is not text, or not of that form.
pub fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(|error| {
        de::Error::custom(format_args!("{text:?} is not a duration such as 500ms, 10s or 24h: {error}"))
    })
}

/// A duration, where none has a meaning of its own.
///
/// # Errors
/// As [`duration`].
pub fn optional_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}
