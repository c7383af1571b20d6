//! Scenario `pair_h1`: HTTP/1.1 through two sidecars with mTLS between them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::Command;
use weft_integration::{Process, eventually, free_port};

use crate::figures::{Figures, Sample};
use crate::measure::MEASURED;
use crate::peers::{self, Pair};
use crate::report::Section;
use crate::{Plan, certificates, generator, measure};

/// A generator that is this late by its own fault measures itself.
const TOO_LATE: Duration = Duration::from_millis(100);

/// Measures.
pub(crate) async fn run(plan: &Plan) -> Result<Section> {
    let directory = tempfile::Builder::new().prefix("weft-bench-").tempdir()?;
    let files = certificates::make(directory.path())?;
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["backend", "--listen", &address.to_string()]);
    let _backend = Process::start("backend", command, directory.path())?;

    let mut figures = Figures::new(plan);
    for round in 1..=plan.rounds {
        for name in peers::NAMES {
            if !plan.only.is_empty() && !plan.only.iter().any(|only| only == name) {
                continue;
            }
            // One pair at a time: an idle one still wakes up now and then.
            let Some(pair) = peers::start(name, address, &files, directory.path()).await? else {
                println!("round {round}: {name} is not here");
                continue;
            };
            let sample = sample(plan, &pair).await.with_context(|| format!("measuring {name}"))?;
            println!("round {round}: {name:<8} {sample}");
            figures.add(name, sample);
        }
    }
    count_calls(plan, &mut figures, address, &files, directory.path()).await?;
    figures.section()
}

async fn up(pair: &Pair) -> Result<()> {
    eventually("the pair answers", async || {
        let run = generator::run(pair.entry, 100, 1, Duration::from_millis(50)).await?;
        if run.failed > 0 {
            bail!("{} failed", run.failed);
        }
        Ok(Some(()))
    })
    .await
    .with_context(|| pair.log())?;
    pair.pids.iter().try_for_each(|pid| measure::pin_process(*pid, MEASURED))
}

async fn sample(plan: &Plan, pair: &Pair) -> Result<Sample> {
    up(pair).await?;
    generator::run(pair.entry, plan.rate, plan.connections, Duration::from_secs(1)).await?;
    let cpu = || pair.pids.iter().map(|pid| measure::cpu_seconds(*pid)).sum::<Result<f64>>();
    let before = cpu()?;
    let run = generator::run(pair.entry, plan.rate, plan.connections, plan.duration()).await?;
    let used = cpu()? - before;
    if run.own_lateness > TOO_LATE {
        bail!(
            "the generator was {:?} late by its own fault: the machine is too busy to measure",
            run.own_lateness
        );
    }
    Ok(Sample {
        requests: run.latencies.len() as u64,
        failed: run.failed,
        cpu_us_per_request: used * 1e6 / run.latencies.len() as f64,
        p50_us: run.percentile(50.0),
        p99_us: run.percentile(99.0),
        p999_us: run.percentile(99.9),
        resident_mib: pair.pids.iter().map(|pid| measure::resident_mib(*pid)).sum::<Result<f64>>()?,
    })
}

/// System calls a request, in a run of its own: strace slows everything down.
async fn count_calls(
    plan: &Plan,
    figures: &mut Figures,
    address: std::net::SocketAddr,
    files: &certificates::Files,
    directory: &std::path::Path,
) -> Result<()> {
    let mut calls = BTreeMap::new();
    for name in figures.names() {
        let Some(pair) = peers::start(&name, address, files, directory).await? else { continue };
        if pair.pids.is_empty() {
            continue;
        }
        up(&pair).await?;
        let work = generator::run(pair.entry, 200, 4.min(plan.connections), Duration::from_secs(5));
        if let Some((total, run)) = measure::system_calls(&pair.pids, work).await? {
            calls.insert(name, total as f64 / run.latencies.len() as f64);
        }
    }
    figures.calls = calls;
    Ok(())
}
