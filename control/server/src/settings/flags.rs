//! The command line of `weft-control`. Every setting can be set here; none has a flag of its own.

use std::path::PathBuf;

/// The control plane of a Weft mesh.
#[derive(clap::Parser)]
#[command(
    version,
    after_help = "Settings come from --config, then WEFT_CONTROL_… in the environment, then --set."
)]
pub(crate) struct Flags {
    /// The settings file (TOML).
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// One setting: listen=127.0.0.1:15010, admin.socket=/run/weft/admin.sock.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}
