//! `weft-control`: the control plane. Registries in, resources and certificates out, an admin endpoint beside them.
//!
//! Here settings are read, the log is set up, and signals become the end of `run`. The exit status is 0 after
//! SIGTERM or SIGINT, 1 when it could not start or a part failed, 2 when the command line is wrong.

mod admin;
mod ads;
mod ca;
mod clock;
mod counters;
mod ingest;
mod last_known;
mod log;
mod notify;
mod proxies;
mod publish;
mod readiness;
mod run;
mod settings;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The control plane of a Weft mesh.
#[derive(Parser)]
#[command(
    version,
    after_help = "Settings come from --config, then WEFT_CONTROL_… in the environment, then --set."
)]
struct Args {
    /// The settings file (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting: listen=127.0.0.1:15010, admin.socket=/run/weft/admin.sock.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

fn main() -> ExitCode {
    match start(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft-control: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: &Args) -> Result<()> {
    let settings = settings::load(args.config.as_deref(), &args.set)?;
    log::to_stderr(&settings)?;
    weft_identity::install_crypto_provider();
    let notify_socket = std::env::var_os("NOTIFY_SOCKET");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(async {
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stop = async {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        };
        run::run(settings, notify_socket, stop).await
    })
}
