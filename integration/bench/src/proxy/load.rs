//! One scenario: every candidate in every round, one at a time, and then each one's system calls.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::process::Command;
use weft_integration::{Process, count_system_calls, eventually, free_port};

use crate::measure::{self, MEASURED};
use crate::proxy::figures::{Figures, Sample};
use crate::proxy::generator::{self, Load, Run};
use crate::proxy::peers::{self, Place, Running};
use crate::proxy::scenario::{Scenario, Wire};
use crate::proxy::{Args, certificates};

/// A generator and backend that use more of their core than this are what is measured.
const BUSY: f64 = 0.85;
/// So many requests may be late by the generator's fault: beyond it the last percentiles are the generator's.
const LATE: f64 = 0.005;

/// Measures.
pub(super) async fn run(args: &Args, scenario: Scenario) -> Result<Figures> {
    let directory = tempfile::Builder::new().prefix("weft-bench-").tempdir()?;
    let files = certificates::make(directory.path())?;
    let (backend, address) = start_backend(scenario.wire(), directory.path())?;
    let place = Place { scenario, backend: address, files: &files, directory: directory.path() };
    let mut figures = Figures::new(scenario, args);
    for round in 1..=args.rounds {
        for name in peers::NAMES.iter().filter(|name| args.wants(name)) {
            // One at a time: an idle one still wakes up now and then.
            let Some(running) = peers::start(name, &place).await? else {
                println!("{}, round {round}: {name} is not here", scenario.name());
                continue;
            };
            let sample = sample(args, scenario.wire(), &running, &backend, round).await;
            let sample = sample.with_context(|| format!("measuring {name}"))?;
            println!("{}, round {round}: {name:<8} {sample}", scenario.name());
            figures.add(name, sample, &running.configuration);
        }
    }
    for name in figures.names() {
        if let Some(calls) = calls(&name, &place).await? {
            println!("{}: {name:<8} {calls:.2} system calls a request", scenario.name());
            figures.calls.insert(name, calls);
        }
    }
    Ok(figures)
}

fn start_backend(wire: Wire, directory: &Path) -> Result<(Process, SocketAddr)> {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["backend", "--listen", &address.to_string(), "--wire", wire.name()]);
    Ok((Process::start("backend", command, directory)?, address))
}

async fn up(running: &Running, wire: Wire) -> Result<()> {
    eventually("the candidate answers", async || {
        let load = Load { rate: 100, callers: 1, duration: Duration::from_millis(50) };
        let run = generator::run(running.entry, wire, load).await?;
        if run.failed > 0 {
            bail!("{} failed: {}", run.failed, run.complaint.unwrap_or_default());
        }
        Ok(Some(()))
    })
    .await
    .with_context(|| running.log())?;
    running.pids.iter().try_for_each(|pid| measure::pin_process(*pid, MEASURED))
}

async fn sample(args: &Args, wire: Wire, running: &Running, backend: &Process, round: u32) -> Result<Sample> {
    up(running, wire).await?;
    let load = Load { rate: args.rate, callers: args.connections, duration: args.duration() };
    generator::run(running.entry, wire, Load { duration: Duration::from_secs(1), ..load }).await?;
    let (own, app) = (std::process::id(), backend.pid()?);
    let cpu = |pids: &[u32]| pids.iter().map(|pid| measure::cpu_seconds(*pid)).sum::<Result<f64>>();
    let (before, before_own, start) = (cpu(&running.pids)?, cpu(&[own, app])?, Instant::now());
    let run = generator::run(running.entry, wire, load).await?;
    let (used, wall) = (cpu(&running.pids)? - before, start.elapsed().as_secs_f64());
    let busy = (cpu(&[own, app])? - before_own) / wall;
    let memory = running.pids.iter().map(|pid| measure::resident_mib(*pid)).sum::<Result<f64>>()?;
    Ok(Sample {
        round,
        requests: run.latencies.len() as u64,
        failed: run.failed,
        complaint: run.complaint.clone(),
        cpu_us_per_request: used * 1e6 / run.latencies.len() as f64,
        p50_us: run.percentile(50.0),
        p99_us: run.percentile(99.0),
        p999_us: run.percentile(99.9),
        resident_mib: memory,
        generator_busy: busy,
        refused: refusal(&run, busy, load.rate, wall),
    })
}

/// Why this sample says more of the generator than of the candidate.
fn refusal(run: &Run, busy: f64, rate: u32, wall: f64) -> Option<String> {
    let reached = run.latencies.len() as f64 / wall / f64::from(rate);
    if busy > BUSY {
        return Some(format!("generator and backend used {:.0} % of their core", busy * 100.0));
    }
    if run.late_share() > LATE {
        return Some(format!("{:.1} % of the requests left late", run.late_share() * 100.0));
    }
    (reached < 0.9).then(|| format!("only {:.0} % of the rate was reached", reached * 100.0))
}

/// System calls a request, in a run of its own: counting them slows everything down.
async fn calls(name: &str, place: &Place<'_>) -> Result<Option<f64>> {
    let Some(running) = peers::start(name, place).await? else { return Ok(None) };
    if running.pids.is_empty() {
        return Ok(None);
    }
    let wire = place.scenario.wire();
    up(&running, wire).await?;
    // One caller: nothing can be done for two requests at once, so the figure is the same on every machine.
    let load = Load { rate: 200, callers: 1, duration: Duration::from_secs(4) };
    let counted = count_system_calls(&running.pids, generator::run(running.entry, wire, load)).await?;
    Ok(counted.map(|(calls, run)| calls as f64 / run.latencies.len() as f64))
}
