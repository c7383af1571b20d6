//! Developer tasks: `cargo xtask test | tools | check | cluster | image | fuzz | simulate | soak | bench`.
//!
//! What a fresh machine lacks (real servers, a Go toolchain, Python packages) is had from package registries into a
//! cache outside the checkout, once a machine and version. Nothing here is part of what is shipped.

mod bench;
mod cache;
mod check;
mod cluster;
mod fuzz;
mod image;
mod process;
mod simulate;
mod soak;
mod test;
mod tools;

use clap::{Parser, Subcommand};

/// Weft's developer tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", version, about)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what the tests need, then run all of them.
    Test(test::Args),
    /// Build or install the real servers of the tests into the cache, and say where they are.
    Tools(tools::Args),
    /// Formatting, lints, dependencies, arrows between crates (these fail); headers and lengths (a report).
    Check,
    /// A real Kubernetes on this machine: up, down, kubectl, list, load.
    Cluster(cluster::Args),
    /// The images that are shipped: static programs, from scratch, as OCI archives.
    Image(image::Args),
    /// Fuzz what reads bytes from outside.
    Fuzz(fuzz::Args),
    /// Replay a seed of the simulation, with its history.
    Simulate(simulate::Args),
    /// The soak of the tests for longer than there.
    Soak(soak::Args),
    /// Measure beside the peers, in one run.
    Bench(bench::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().task {
        Task::Test(args) => test::run(&args),
        Task::Tools(args) => tools::run(&args),
        Task::Check => check::run(),
        Task::Cluster(args) => cluster::run(&args),
        Task::Image(args) => image::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Simulate(args) => simulate::run(&args),
        Task::Soak(args) => soak::run(&args),
        Task::Bench(args) => bench::run(&args),
    }
}
