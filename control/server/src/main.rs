//! `weft-control`: the control plane. Registries in, resources and certificates out, an admin endpoint beside them.
//!
//! Here settings are read, the log is set up, and signals become the end of `run`. The exit status is 0 after
//! SIGTERM or SIGINT, 1 when it could not start or a part failed, 2 when the command line is wrong.

mod abandoned;
mod admin;
mod ads;
mod ca;
mod ca_secret;
mod clock;
mod conduct;
mod counters;
mod events;
mod expelled;
mod framed;
mod ingest;
mod last_known;
mod log;
mod proxies;
mod publish;
mod readiness;
mod registry_secrets;
mod rotate;
mod run;
mod settings;
mod stalled;
mod token_secret;
mod webhook;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::settings::Flags;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match start(&Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft-control: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(flags: &Flags) -> Result<()> {
    let settings = settings::load(flags.config.as_deref(), &flags.set)?;
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
