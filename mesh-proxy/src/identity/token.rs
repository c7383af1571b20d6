//! The join token: from the settings or a file, and the pin of the mesh's root in it.

use anyhow::{Context, Result, bail};
use weft_identity::RootPin;

use crate::settings::JoinTokenSource;

/// The token's text.
pub(super) fn read(source: &JoinTokenSource) -> Result<String> {
    let (text, key) = match source {
        JoinTokenSource::Given(token) => (token.clone(), "identity.join_token".to_owned()),
        JoinTokenSource::File(path) => {
            let named = format!("identity.join_token_file {}", path.display());
            (std::fs::read_to_string(path).with_context(|| named.clone())?, named)
        }
    };
    match text.trim() {
        "" => bail!("{key} is empty"),
        token => Ok(token.to_owned()),
    }
}

/// The pin that the token ends with. Everything before it is the control plane's business.
pub(super) fn pin(token: &str) -> Result<Option<RootPin>> {
    if !token.starts_with("weft1.") {
        bail!("the join token does not start with weft1.; expected what `weft token create` printed");
    }
    let pin = token.rsplit('.').next().unwrap_or_default();
    // The token is a secret: the error does not show it.
    pin.parse()
        .map(Some)
        .ok()
        .context("the join token is damaged: it does not end with the hash of the mesh's root")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pin_is_the_tokens_last_part_and_errors_do_not_show_the_token() {
        let hash = "ab".repeat(32);
        assert_eq!(pin(&format!("weft1.id.secret.{hash}")).unwrap().unwrap().to_string(), hash);
        for bad in ["weft1.id.secret.abcd", "weft1.id.secret", "secret"] {
            let error = format!("{:#}", pin(bad).unwrap_err());
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
