//! `weft-simulate`: one seed with its history, or many without. `cargo xtask simulate` builds and starts it.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use weft_simulation::{Fault, Plan, Trace, run, shrink};

/// Replays a seed of the simulation and prints what happens.
#[derive(Parser)]
#[command(name = "cargo xtask simulate", version, about)]
struct Arguments {
    /// The seed.
    #[arg(long)]
    seed: u64,
    /// Run so many seeds from this one on, and print only what fails.
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Make a failing seed smaller before it is replayed.
    #[arg(long)]
    shrink: bool,
    /// Other than the seed says: how many proxies.
    #[arg(long)]
    proxies: Option<usize>,
    /// How many control planes.
    #[arg(long)]
    planes: Option<usize>,
    /// How many registries.
    #[arg(long)]
    registries: Option<usize>,
    /// How many services.
    #[arg(long)]
    services: Option<usize>,
    /// How long things change and go wrong.
    #[arg(long)]
    seconds: Option<u64>,
    /// A kind of fault that does not happen.
    #[arg(long, value_enum)]
    without: Vec<Fault>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let holds = if arguments.count > 1 { many(&arguments) } else { one(&arguments) };
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(arguments: &Arguments) -> bool {
    let mut plan = plan(arguments, arguments.seed);
    if arguments.shrink {
        plan = shrink(&plan, SHRINK);
    }
    println!("{plan}\n{plan:?}");
    match run(&plan, Trace::Print) {
        Ok(figures) => println!("everything holds: {figures:?}"),
        Err(violation) => {
            println!("{violation}");
            return false;
        }
    }
    true
}

fn many(arguments: &Arguments) -> bool {
    let (start, mut failed) = (Instant::now(), 0_u64);
    for seed in arguments.seed..arguments.seed.saturating_add(arguments.count) {
        if let Err(violation) = run(&plan(arguments, seed), Trace::Off) {
            failed += 1;
            println!("seed {seed}: {violation}\n  cargo xtask simulate --seed {seed}");
        }
    }
    println!("{} seeds in {:.1} s, {failed} failed", arguments.count, start.elapsed().as_secs_f64());
    failed == 0
}

fn plan(arguments: &Arguments, seed: u64) -> Plan {
    let mut plan = Plan::of(seed);
    plan.proxies = arguments.proxies.unwrap_or(plan.proxies);
    plan.planes = arguments.planes.unwrap_or(plan.planes);
    plan.registries = arguments.registries.unwrap_or(plan.registries);
    plan.services = arguments.services.unwrap_or(plan.services);
    plan.chaos = arguments.seconds.map_or(plan.chaos, Duration::from_secs);
    plan.faults.retain(|fault| !arguments.without.contains(fault));
    plan
}

/// Runs that are spent to make one smaller.
const SHRINK: usize = 200;
