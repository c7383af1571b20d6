//! The command line. Everything that can be set is a setting; flags only say where settings come from, or ask about them.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

/// The Weft data plane: one small proxy beside each workload.
///
/// Settings come from defaults, the file, environment variables WEFT_PROXY_SECTION__KEY, and --set; later ones win.
#[derive(Debug, Parser)]
#[command(name = "weft-proxy", version)]
pub(crate) struct Arguments {
    /// The settings file, TOML.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// One setting, as in --set admin.listen=127.0.0.1:0. May be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Check the settings and exit.
    #[arg(long)]
    pub(crate) check: bool,
    /// Wait until the proxy whose health port this is is ready, for up to ten minutes, and exit.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) await_ready: Option<SocketAddr>,
    /// Print every setting, metric and response flag as JSON and exit.
    #[arg(long)]
    pub(crate) reference: bool,
}
