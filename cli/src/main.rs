//! `weft`: the command line of the mesh.
//!
//! Here a command is chosen and its failure becomes an exit status: 0 done, 1 failed, 2 wrong command line (by clap),
//! 3 no control plane answered. What the commands do is in the modules.

mod analyze;
mod args;
mod ca;
mod cluster;
mod control;
mod demo;
mod get;
mod inject;
mod kubernetes;
mod nomad;
mod output;
mod status;
mod token;
mod workload;

use std::ffi::OsStr;
use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::args::{Cli, Command};
use crate::control::{Control, ControlError};
use crate::output::Style;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(run(cli)));
    let error = match result {
        Ok(code) => return code,
        Err(error) => error,
    };
    tell(&error);
    match error.downcast_ref::<ControlError>() {
        Some(
            ControlError::Unreachable { .. } | ControlError::Cluster { .. } | ControlError::TimedOut { .. },
        ) => ExitCode::from(3),
        _ => ExitCode::FAILURE,
    }
}

/// Says why it failed.
fn tell(error: &anyhow::Error) {
    for line in format!("weft: {error:#}").lines() {
        eprintln!("{}", output::printable(line));
    }
}

async fn run(cli: Cli) -> Result<ExitCode> {
    let control = Control::new(cli.control.unwrap_or_default());
    let style = style();
    match cli.command {
        Command::Analyze(args) => {
            return Ok(analyze::run(args, cli.output, style).await.unwrap_or_else(|error| {
                tell(&error);
                ExitCode::from(2)
            }));
        }
        Command::Get(args) => get::run(args, &control, cli.output, style).await,
        Command::Status(args) => status::run(args, &control, cli.output, style).await,
        Command::Ca(args) => ca::run(args, &control, cli.output).await,
        Command::Token(args) => token::run(args, &control, cli.output, style).await,
        Command::Inject(args) => inject::run(args, &control, cli.output).await,
        Command::Nomad(args) => return nomad::run(args, &control, cli.output, style).await,
        Command::Install(args) => kubernetes::install(&args),
        Command::Uninstall(args) => kubernetes::uninstall(&args).await,
        Command::Completion { shell } => output::print(&args::completion(shell)),
        Command::Version => output::print(&format!("weft {}\n", env!("CARGO_PKG_VERSION"))),
        Command::Workload(args) => workload::run(args).await,
        Command::Demo(args) => {
            let well = demo::run(args, style).await?;
            return Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Colours only for a terminal that can show them and a user who did not object (no-color.org).
fn style() -> Style {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let dumb = set("TERM").as_deref() == Some(OsStr::new("dumb"));
    Style { colour: std::io::stdout().is_terminal() && set("NO_COLOR").is_none() && !dumb }
}
