//! `cargo xtask simulate`: one seed of the simulation with its history, or many without.
//!
//! The program is `weft-simulate` of `integration/simulation`; this only builds and starts it, so that what a failing test
//! prints is the whole command.

use std::process::Command;

use anyhow::Result;

use crate::{cache, process};

/// `cargo xtask simulate`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Passed on: `--seed N`, `--shrink`, `--count N`, `--without FAULT` and more; `--help` shows them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    arguments: Vec<String>,
}

/// `cargo xtask simulate`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut command = Command::new("cargo");
    command.args(["run", "--quiet", "--package", "weft-simulation", "--bin", "weft-simulate", "--"]);
    process::run(command.args(&args.arguments).current_dir(cache::checkout()))
}

/// The variable by which the simulation's test learns how many seeds to run.
pub(crate) const SEEDS: &str = "WEFT_SIM_SEEDS";
/// How many `cargo xtask test` runs.
pub(crate) const IN_TESTS: &str = "10000";
