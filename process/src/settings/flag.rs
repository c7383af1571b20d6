//! Settings of the command line, one a flag, as a source of figment's.
//!
//! An error names the flag as the user wrote it.

use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile, Provider};

use super::InvalidSettings;

/// Lists and tables of one value, and parts of a key: more than any setting has.
const MOST_NESTED: usize = 64;

/// Why figment can't be trusted with a key and its value, where it can't: behind an escape it counts characters and means
/// bytes, so that it misreads or panics, and what is nested it follows without an end, on the stack.
pub(super) fn unreadable(key: &str, separator: &str, value: &str) -> Option<&'static str> {
    let nested = value.trim_start().starts_with(['[', '{']);
    let quoted = value.trim_start().starts_with(['"', '\'']);
    if (nested || quoted) && value.contains('\\') && !value.is_ascii() {
        return Some(
            "a quoted value, list or table with both a backslash and a character beyond ASCII can't be read; set it in the file",
        );
    }
    let opened = if nested { value.matches(['[', '{']).count() } else { 0 };
    if opened > MOST_NESTED || key.matches(separator).count() > MOST_NESTED {
        return Some(
            "a key of more than 64 parts, or more than 64 lists and tables in one value, can't be read",
        );
    }
    None
}

pub(super) struct Flag {
    text: String,
    values: Dict,
}

impl Flag {
    /// `--set KEY=VALUE`.
    pub(super) fn set(text: &str) -> Result<Self, InvalidSettings> {
        let Some((key, value)) = text.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            let problem = format!("flag --set {text}: expected KEY=VALUE, as in admin.listen=127.0.0.1:0");
            return Err(InvalidSettings::Values(vec![problem]));
        };
        if let Some(problem) = unreadable(key, ".", value) {
            return Err(InvalidSettings::Values(vec![format!("{key}: {problem} (flag --set {text})")]));
        }
        // Figment's own reading of a bare value: numbers, booleans, [lists], {tables}; everything else is text.
        let value: Value = value.parse().unwrap_or_else(|never: std::convert::Infallible| match never {});
        Ok(Self::new(format!("--set {text}"), key, value))
    }

    /// A setting's own flag. Its value is text: a directory may be called `1`.
    pub(super) fn named(name: &str, key: &str, value: &str) -> Self {
        Self::new(format!("{name} {value}"), key, Value::from(value))
    }

    fn new(text: String, key: &str, value: Value) -> Self {
        Self { text, values: figment::util::nest(key, value).into_dict().unwrap_or_default() }
    }
}

impl Provider for Flag {
    fn metadata(&self) -> Metadata {
        Metadata::named(format!("flag {}", self.text))
            .interpolater(|_: &Profile, keys: &[&str]| keys.join("."))
    }
    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}
