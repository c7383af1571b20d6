//! `weft token`: join tokens, with which a proxy proves its identity the first time.
//!
//! `create` prints the token alone on standard output, so that it can be piped into a file; everything said to
//! people goes to standard error. The token is shown once and can't be asked for again. Tokens are one control plane's, or
//! with `--control kubernetes` those that the control planes of a cluster share.

mod shared;

use std::time::{Duration, SystemTime};

use anyhow::Result;
use weft_control_api::{NewToken, TokenCreated, TokenView, path};

use crate::control::Control;
use crate::output::{self, Format, Style, Table};
use shared::SharedTokens;

/// `weft token`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, clap::Subcommand)]
enum TokenCommand {
    /// Make a single-use token for one identity and print it.
    Create {
        /// Who the bearer becomes: NAMESPACE/SERVICE-ACCOUNT, or a whole SPIFFE id of the mesh's trust domain.
        #[arg(long)]
        identity: String,
        /// For how long it can be used: 90s, 10m, 2h.
        #[arg(long, default_value = "10m", value_parser = ttl)]
        ttl: Duration,
    },
    /// List the tokens, used and expired ones too.
    List,
    /// Make a token unusable.
    Revoke {
        /// Its id, as `weft token list` shows it.
        id: String,
    },
}

fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = humantime::parse_duration(text).map_err(|error| format!("{error}; expected 90s, 10m, 2h"))?;
    if ttl < Duration::from_secs(1) { Err("expected at least 1s".to_owned()) } else { Ok(ttl) }
}

/// Whose tokens.
enum Keeper<'a> {
    Control(&'a Control),
    Shared(SharedTokens),
}

/// Runs it.
pub(crate) async fn run(args: Args, control: &Control, format: Format, style: Style) -> Result<()> {
    let keeper = match control.namespace() {
        Some(namespace) => Keeper::Shared(SharedTokens::open(namespace).await?),
        None => Keeper::Control(control),
    };
    match args.command {
        TokenCommand::Create { identity, ttl } => {
            let created: TokenCreated = match &keeper {
                Keeper::Shared(shared) => shared.create(&identity, ttl, SystemTime::now()).await?,
                Keeper::Control(control) => {
                    let request = NewToken { identity, ttl_seconds: ttl.as_secs() };
                    control.post(path::TOKENS, &request).await?
                }
            };
            eprintln!(
                "token {} for {}: good once, within {}",
                created.view.id,
                created.view.identity,
                humantime::format_duration(ttl)
            );
            match format {
                Format::Table => output::print(&format!("{}\n", created.token)),
                _ => output::print(&output::document(&created, format)?),
            }
        }
        TokenCommand::List => {
            let tokens: Vec<TokenView> = match &keeper {
                Keeper::Shared(shared) => shared.list(SystemTime::now()).await?,
                Keeper::Control(control) => control.get(path::TOKENS).await?,
            };
            match format {
                Format::Table => output::print(&listing(&tokens, style)),
                _ => output::print(&output::document(&tokens, format)?),
            }
        }
        TokenCommand::Revoke { id } => {
            match &keeper {
                Keeper::Shared(shared) => shared.revoke(&id).await?,
                Keeper::Control(control) => control.delete(&path::of(path::TOKENS, &id)).await?,
            }
            eprintln!("token {id} can no longer be used");
            Ok(())
        }
    }
}

fn listing(tokens: &[TokenView], style: Style) -> String {
    if tokens.is_empty() {
        return "There are none. `weft token create --identity NAMESPACE/NAME` makes one.\n".to_owned();
    }
    let mut table = Table::new(&["ID", "STATE", "EXPIRES", "IDENTITY"]);
    for token in tokens {
        let expires = expiry(token.expires_unix_ms);
        table.row(vec![
            (&token.id).into(),
            token.state.as_str().into(),
            expires.into(),
            (&token.identity).into(),
        ]);
    }
    table.lines(style, "").join("\n") + "\n"
}

fn expiry(unix_ms: u64) -> String {
    let at = std::time::UNIX_EPOCH.checked_add(Duration::from_millis(unix_ms / 1000 * 1000));
    at.map_or_else(|| unix_ms.to_string(), |at| humantime::format_rfc3339_seconds(at).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_control_api::TokenState;

    #[test]
    fn a_ttl_needs_a_unit_and_a_length() {
        assert_eq!(ttl("10m"), Ok(Duration::from_secs(600)));
        for bad in ["", "10", "0s", "500ms", "-1s", "x"] {
            assert!(ttl(bad).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn tokens_are_listed_without_their_secret() {
        let token = TokenView {
            id: "k3".into(),
            identity: "spiffe://td/ns/a/sa/b".into(),
            expires_unix_ms: 1_000_000_000_123,
            state: TokenState::Unused,
        };
        let text = listing(&[token], Style { colour: false });
        assert_eq!(
            text,
            "ID   STATE    EXPIRES                IDENTITY\nk3   unused   2001-09-09T01:46:40Z   spiffe://td/ns/a/sa/b\n"
        );
    }
}
