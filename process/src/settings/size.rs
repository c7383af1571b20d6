//! Sizes as users write them: a whole number with its unit, `512MiB`, `2GiB`, `64KiB`, or of bytes.
//!
//! For `#[serde(deserialize_with = …)]`. Only binary units: `MB` would be a guess about which one is meant.

use serde::de::{Error, Visitor};
use serde::{Deserializer, de};

const UNITS: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// A size in bytes, where none has a meaning of its own.
///
/// # Errors
/// When it is not of that form.
pub fn optional_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    deserializer.deserialize_any(Size).map(Some)
}

struct Size;

impl Visitor<'_> for Size {
    type Value = u64;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a size such as 512MiB or 2GiB")
    }

    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<u64, E> {
        Ok(bytes)
    }

    fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<u64, E> {
        u64::try_from(bytes).map_err(|_| wrong(&bytes.to_string()))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
        parse(text).ok_or_else(|| wrong(text))
    }
}

fn parse(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let (number, unit) = (digits.parse::<u64>().ok()?, text.get(digits.len()..)?.trim());
    let (_, bytes) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*bytes)
}

fn wrong<E: Error>(text: &str) -> E {
    E::custom(format_args!("{text:?} is not a size such as 64KiB, 512MiB or 2GiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_binary_unit() {
        assert_eq!(parse("512MiB"), Some(512 << 20));
        assert_eq!(parse("2 GiB"), Some(2 << 30));
        assert_eq!(parse("1KiB"), Some(1024));
        for wrong in ["", "MiB", "5", "5MB", "5mib", "-1MiB", "1.5GiB", "99999999999999GiB"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
