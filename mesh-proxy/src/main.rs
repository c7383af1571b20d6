//! `weft-proxy`: the data plane, one process beside each workload.
//!
//! Here are only the command line and the environment; `run.rs` builds the parts. The data path is in `worker.rs`,
//! `inbound`, `outbound` and what they use; everything else feeds it or shows it.

mod admin;
mod allocator;
mod arguments;
mod authorize;
mod await_ready;
mod balance;
mod config;
mod demand;
mod dns;
mod health;
mod http;
mod identity;
mod inbound;
mod logging;
mod mesh;
mod outbound;
mod overload;
mod place;
mod pool;
mod record;
mod reference;
mod route;
mod run;
mod settings;
mod shared;
mod shell_http;
mod sockets;
mod state;
mod tcp;
mod telemetry;
mod vanish;
mod worker;

use std::process::ExitCode;

use arguments::Arguments;
use clap::Parser;

fn main() -> ExitCode {
    start().unwrap_or_else(|error| {
        eprintln!("weft-proxy: {error:#}");
        ExitCode::FAILURE
    })
}

fn start() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.reference {
        println!("{}", reference::json()?);
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(address) = arguments.await_ready {
        await_ready::run(address)?;
        return Ok(ExitCode::SUCCESS);
    }
    let settings = settings::load(arguments.config.as_deref(), &arguments.set)?;
    if arguments.check {
        return Ok(ExitCode::SUCCESS);
    }
    let log = logging::start(&settings)?;
    run::run(settings, log, std::env::var_os("NOTIFY_SOCKET"))
}
