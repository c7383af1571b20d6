//! `weft-ca`: the certificate authority alone, for a mesh whose CA shall not be in the control plane's process.
//!
//! Serves `weft.ca.v1`, and makes, lists and revokes join tokens in its state directory (also while it serves).

mod run;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use weft_ca::settings::Settings;
use weft_model::SpiffeId;

/// The certificate authority of a Weft mesh.
#[derive(Debug, Parser)]
#[command(name = "weft-ca", version, subcommand_required = false)]
struct Arguments {
    /// A TOML file with settings.
    #[arg(long, env = "WEFT_CA_CONFIG", global = true)]
    config: Option<PathBuf>,
    /// Whose identities are issued [default: weft.local].
    #[arg(long, global = true)]
    trust_domain: Option<String>,
    /// Where keys and tokens are kept [default: /var/lib/weft-ca].
    #[arg(long, global = true)]
    state_dir: Option<String>,
    /// The address to listen on [default: 127.0.0.1:15010].
    #[arg(long, global = true)]
    listen: Option<String>,
    /// How long a certificate lives [default: 24h].
    #[arg(long, global = true)]
    leaf_ttl: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve. This is what happens without a command.
    Serve,
    /// Join tokens.
    #[command(subcommand)]
    Token(TokenCommand),
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a single-use token; it is printed once and stored hashed.
    Create {
        /// Who joins with it: a whole SPIFFE id.
        #[arg(long)]
        identity: SpiffeId,
        /// How long it can be used: 1s to 7days.
        #[arg(long, default_value = "10m", value_parser = humantime::parse_duration)]
        ttl: Duration,
    },
    /// List the tokens and what became of them.
    List,
    /// Make an unused token unusable.
    Revoke {
        /// The token's id: its second part.
        id: String,
    },
}

fn main() -> anyhow::Result<()> {
    weft_identity::install_crypto_provider();
    let arguments = Arguments::parse();
    let settings = Settings::load(arguments.config.as_deref(), &arguments.flags())?;
    match arguments.command {
        None | Some(Command::Serve) => run::serve(&settings),
        Some(Command::Token(TokenCommand::Create { identity, ttl })) => {
            run::create(&settings, &identity, ttl)
        }
        Some(Command::Token(TokenCommand::List)) => run::list(&settings),
        Some(Command::Token(TokenCommand::Revoke { id })) => run::revoke(&settings, &id),
    }
}

impl Arguments {
    /// Flag, key and value of each that was given.
    fn flags(&self) -> Vec<(&'static str, &'static str, String)> {
        let flags = [
            ("--trust-domain", "trust_domain", &self.trust_domain),
            ("--state-dir", "state_dir", &self.state_dir),
            ("--listen", "listen", &self.listen),
            ("--leaf-ttl", "leaf_ttl", &self.leaf_ttl),
        ];
        flags.into_iter().filter_map(|(flag, key, value)| Some((flag, key, value.clone()?))).collect()
    }
}
