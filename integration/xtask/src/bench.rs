//! `cargo xtask bench`: builds what is shipped, gets the peers, and runs `weft-bench`.

use std::process::Command;

use anyhow::{Context, Result};

use crate::{cache, process, test, tools};

/// `cargo xtask bench`; what follows `--` goes to `weft-bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Put the result into docs/benchmarks.md.
    #[arg(long)]
    docs: bool,
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
    let out = test::target_directory()?.join("bench");
    bench.arg("--out").arg(&out).args(&args.rest).envs(variables).env("WEFT_BIN", &binaries);
    process::run(bench.current_dir(cache::checkout()))?;
    if args.docs {
        document(&std::fs::read_to_string(out.join("benchmarks.md"))?)?;
    }
    Ok(())
}

/// What stands behind this line of docs/benchmarks.md is a run's.
const MARK: &str = "<!-- From here on: cargo xtask bench --docs -->\n";

fn document(report: &str) -> Result<()> {
    let page = cache::checkout().join("docs/benchmarks.md");
    let text = std::fs::read_to_string(&page)?;
    let (own, _) =
        text.split_once(MARK).context("docs/benchmarks.md has no line that says where a run begins")?;
    Ok(std::fs::write(&page, format!("{own}{MARK}\n{report}"))?)
}
