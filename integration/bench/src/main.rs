//! `weft-bench`: the proxy beside its peers, in one run, interleaved.
//!
//! Open loop at a fixed rate: a request is due at its time whether or not the one before has been answered, so a stall shows
//! in the tail. CPU seconds a request is the steadiest figure on a noisy machine, and ratios against a peer of the same
//! round are what counts. Absolute figures are of the machine that the report names.

mod backend;
mod certificates;
mod control;
mod figures;
mod generator;
mod measure;
mod pair;
mod peers;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Measures Weft's proxy beside Envoy, HAProxy and nginx.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    plan: Plan,
}

#[derive(Subcommand)]
enum Command {
    /// The application behind the proxies; started by the benchmark itself.
    #[command(hide = true)]
    Backend(backend::Args),
    /// Only the control plane and the CA.
    Control(control::Args),
}

/// What is measured.
#[derive(clap::Args, Clone)]
pub(crate) struct Plan {
    /// Requests a second.
    #[arg(long, default_value_t = 2000)]
    pub(crate) rate: u32,
    /// Client connections.
    #[arg(long, default_value_t = 16)]
    pub(crate) connections: u32,
    /// Seconds a measurement.
    #[arg(long, default_value_t = 10)]
    pub(crate) seconds: u64,
    /// Rounds; in each, every candidate is measured once.
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: u32,
    /// Only these candidates: direct, weft, envoy, haproxy, nginx.
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Where `benchmarks.json` and `benchmarks.md` are written.
    #[arg(long, global = true, default_value = "target/bench")]
    pub(crate) out: PathBuf,
}

impl Plan {
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    // One thread: the generator and the backend share a core, the proxies have the other.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match cli.command {
        Some(Command::Backend(args)) => runtime.block_on(backend::serve(args)),
        Some(Command::Control(args)) => runtime.block_on(control(&args, &cli.plan)),
        None => runtime.block_on(all(&cli.plan)),
    }
}

async fn all(plan: &Plan) -> Result<()> {
    measure::pin(measure::LOAD)?;
    let mut report = report::Report::new();
    report.add(pair::run(plan).await?);
    report.add(control::run(&control::Args::default()).await?);
    report.write(&plan.out)
}

async fn control(args: &control::Args, plan: &Plan) -> Result<()> {
    measure::pin(measure::LOAD)?;
    let mut report = report::Report::new();
    report.add(control::run(args).await?);
    report.write(&plan.out)
}
