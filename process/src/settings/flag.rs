//! Settings of the command line, one a flag, as a source of figment's.
//!
//! An error names the flag as the user wrote it.

use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile, Provider};

use super::InvalidSettings;

/// What is wrong with a value of which [`is_unreadable`] says so.
pub(super) const UNREADABLE: &str = "a quoted value, list or table with both a backslash and a character beyond ASCII can't be read; set it in the file";

/// Whether figment would misread a value, or panic over it: where it finds an escape it counts characters and means bytes.
pub(super) fn is_unreadable(value: &str) -> bool {
    value.trim_start().starts_with(['"', '\'', '[', '{']) && value.contains('\\') && !value.is_ascii()
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
        if is_unreadable(value) {
            return Err(InvalidSettings::Values(vec![format!("{key}: {UNREADABLE} (flag --set {text})")]));
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
