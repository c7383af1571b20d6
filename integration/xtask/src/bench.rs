//! `cargo xtask bench`: builds what is shipped, gets the peers, and runs `weft-bench`.

use std::process::Command;

use anyhow::Result;

use crate::{cache, process, test, tools};

/// `cargo xtask bench`; what follows `--` goes to `weft-bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Passed on to weft-bench; `-- --help` lists them.
    #[arg(last = true)]
    rest: Vec<String>,
}

/// `cargo xtask bench`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let (variables, missing) = tools::environment(|tool| tool.in_bench);
    for reason in &missing {
        eprintln!("NOT MEASURED: {reason}");
    }
    let mut build = Command::new("cargo");
    build.args([
        "build",
        "--profile",
        "dist",
        "-p",
        "weft-proxy",
        "-p",
        "weft-control",
        "-p",
        "weft",
        "-p",
        "weft-bench",
    ]);
    process::run(build.current_dir(cache::checkout()))?;
    let binaries = test::target_directory()?.join("dist");
    let mut bench = Command::new(binaries.join("weft-bench"));
    process::run(
        bench.args(&args.rest).envs(variables).env("WEFT_BIN", &binaries).current_dir(cache::checkout()),
    )
}
