//! The join token: from the settings, or from a file that is read at every attempt.

use anyhow::{Context, Result};
use weft_identity::JoinToken;

use crate::settings::JoinTokenSource;

/// The token. Errors name the setting and never show the token: it is a secret, also with a typing error.
pub(super) fn read(source: &JoinTokenSource) -> Result<JoinToken> {
    let named = || format!("{source}");
    match source {
        JoinTokenSource::Given(token) => token.parse().with_context(named),
        JoinTokenSource::File(path) => {
            std::fs::read_to_string(path).with_context(named)?.parse().with_context(named)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_token_is_named_by_its_setting_and_not_shown() {
        for bad in ["weft1.id.secret.abcd", "weft1.id.secret", "secret", ""] {
            let error = format!("{:#}", read(&JoinTokenSource::Given(bad.to_owned())).unwrap_err());
            assert!(error.starts_with("identity.join_token: "), "{error}");
            assert!(!error.contains("id.secret") && !error.contains("abcd"), "{error}");
        }
    }

    #[test]
    fn a_token_file_may_end_with_a_line_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let source = JoinTokenSource::File(path.clone());
        let missing = format!("{:#}", read(&source).unwrap_err());
        assert!(missing.contains("identity.join_token_file") && missing.contains("token"), "{missing}");
        let token = JoinToken::random("ab".repeat(32).parse().unwrap());
        std::fs::write(&path, format!("{token}\n")).unwrap();
        assert_eq!(read(&source).unwrap(), token);
    }
}
