//! `weft-bench`: what the mesh costs, beside its peers where there are any.
//!
//! A module for each part of the mesh; each makes sections of one report. Without a subcommand all of them run.

mod control;
mod measure;
mod proxy;
mod report;
mod row;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use report::Report;

/// Measures Weft, and Envoy, HAProxy and nginx in the same run.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    proxy: proxy::Args,
    /// Where `benchmarks.json` and `benchmarks.md` are written.
    #[arg(long, global = true, default_value = "target/bench")]
    out: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// The application behind the proxies; started by the benchmark itself.
    #[command(hide = true)]
    Backend(proxy::backend::Args),
    /// Only the proxy: pairs, one hop, idle.
    Proxy(proxy::Args),
    /// Only the control plane and the CA.
    Control(control::Args),
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    // One thread: the generator and the backend share a core, what is measured has the other.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let Some(Command::Backend(args)) = cli.command {
        return runtime.block_on(proxy::backend::serve(args));
    }
    runtime.block_on(measured(cli))
}

async fn measured(cli: Cli) -> Result<()> {
    // Before there is only one core left to see.
    let mut report = Report::new();
    measure::pin(measure::LOAD)?;
    match cli.command {
        Some(Command::Proxy(args)) => proxy::run(&args, &mut report).await?,
        Some(Command::Control(args)) => report.add(control::run(&args).await?),
        Some(Command::Backend(_)) | None => {
            proxy::run(&cli.proxy, &mut report).await?;
            report.add(control::run(&control::Args::default()).await?);
        }
    }
    report.write(&cli.out)
}
