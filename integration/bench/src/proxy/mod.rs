//! The proxy beside its peers, interleaved in one run.
//!
//! Open loop at a fixed rate: a request is due at its time whether or not the one before has been answered, so a stall shows
//! in the tail. CPU a request is the steadiest figure on a noisy machine, and ratios against a peer of the same round are
//! what counts. Absolute figures are of the machine that the report names.

pub(crate) mod backend;
mod certificates;
mod figures;
mod generator;
mod idle;
mod load;
mod peers;
mod scenario;

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use crate::report::Report;
use scenario::Scenario;

/// What is measured of the proxy.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// Requests a second.
    #[arg(long, default_value_t = 2000)]
    pub(crate) rate: u32,
    /// Callers: connections of HTTP/1.1, streams of HTTP/2.
    #[arg(long, default_value_t = 16)]
    pub(crate) connections: u32,
    /// Seconds a measurement.
    #[arg(long, default_value_t = 10)]
    pub(crate) seconds: u64,
    /// Rounds; in each, every candidate is measured once. 0 leaves only the idle figures.
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: u32,
    /// Only these candidates: direct, weft, envoy, haproxy, nginx.
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Only these scenarios.
    #[arg(long, value_delimiter = ',', value_enum)]
    pub(crate) scenarios: Vec<Scenario>,
    /// Starts that are timed; 0 leaves out the idle figures.
    #[arg(long, default_value_t = 10)]
    pub(crate) starts: usize,
}

impl Args {
    fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    fn scenarios(&self) -> Vec<Scenario> {
        match self.scenarios.is_empty() {
            true => Scenario::value_variants().to_vec(),
            false => self.scenarios.clone(),
        }
    }
}

/// Measures all that is asked for.
///
/// # Errors
/// When a candidate does not come up, or its processes can't be watched.
pub(crate) async fn run(args: &Args, report: &mut Report) -> Result<()> {
    let scenarios = if args.rounds > 0 { args.scenarios() } else { vec![] };
    for scenario in scenarios {
        report.add(load::run(args, scenario).await?.section(args)?);
    }
    if args.starts > 0 {
        report.add(idle::run(args).await?);
    }
    Ok(())
}
