//! `cargo xtask soak`: the soak that is part of the tests, for as long as one likes, on the same programs.

use std::process::Command;

use anyhow::Result;

use crate::{cache, process, test};

/// `cargo xtask soak`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long load and churn last.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
}

/// `cargo xtask soak`.
pub(crate) fn run(args: &Args) -> Result<()> {
    process::run(
        Command::new("cargo").args(["build", "--workspace", "--bins"]).current_dir(cache::checkout()),
    )?;
    let mut soak = Command::new("cargo");
    soak.args(["test", "-p", "weft-integration", "--test", "soak", "--", "--nocapture", "load_and_churn"]);
    soak.env("WEFT_SOAK_SECONDS", (args.minutes * 60).to_string());
    soak.env("WEFT_BIN", test::target_directory()?.join("debug"));
    process::run(soak.current_dir(cache::checkout()))
}
