//! `cargo xtask test`: gets the real servers, builds what tests start as processes, runs every test, sums up.
//!
//! The sum says what ran on real servers and what could not: a skip is never silent.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{cache, fuzz, process, simulate, tools};

/// For each fuzz target, after its corpus was replayed.
const FUZZ_SECONDS: u32 = 20;

/// `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only tests whose name contains this.
    filter: Option<String>,
    /// Only this package.
    #[arg(short, long)]
    package: Option<String>,
}

/// `cargo xtask test`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let (variables, missing) = tools::environment(|tool| tool.in_tests);
    for reason in &missing {
        eprintln!("NOT AVAILABLE: {reason}");
    }
    // End-to-end tests start the same binaries that a user starts.
    process::run(
        Command::new("cargo").args(["build", "--workspace", "--bins"]).current_dir(cache::checkout()),
    )?;

    let report = tempfile::NamedTempFile::new()?;
    let figures = tempfile::NamedTempFile::new()?;
    let mut command = Command::new("cargo");
    command.args(["test", "--no-fail-fast"]).current_dir(cache::checkout());
    match &args.package {
        Some(package) => command.args(["--package", package]),
        None => command.arg("--workspace"),
    };
    command.args(args.filter.iter()).envs(variables).env("WEFT_REAL_REPORT", report.path());
    // An error's words say what is wrong; hundreds of frames around them hide it. Panics keep theirs.
    command
        .env("RUST_LIB_BACKTRACE", "0")
        .env("WEFT_FIGURES", figures.path())
        .env("WEFT_BIN", target_directory()?.join("debug"));
    if std::env::var_os(simulate::SEEDS).is_none() {
        command.env(simulate::SEEDS, simulate::IN_TESTS);
    }
    let mut sum = counted(&mut command)?;
    if args.package.is_none() && args.filter.is_none() {
        let (passed, failed) = fuzz::short(FUZZ_SECONDS)?;
        sum.passed += passed;
        sum.failed += failed;
    }

    real_servers(report.path(), &missing)?;
    measured(figures.path())?;
    println!("{} passed, {} failed", sum.passed, sum.failed);
    sum.failures.iter().for_each(|test| println!("  {test}"));
    if sum.failed > 0 || !sum.succeeded {
        bail!("tests failed");
    }
    if sum.passed == 0 {
        bail!("no test ran: is the filter right?");
    }
    Ok(())
}

/// Where Cargo puts what it builds; it may be outside the checkout.
pub(crate) fn target_directory() -> Result<PathBuf> {
    let mut command = Command::new("cargo");
    command.args(["metadata", "--format-version=1", "--no-deps"]).current_dir(cache::checkout());
    let metadata: serde_json::Value = serde_json::from_str(&process::quiet(&mut command)?)?;
    metadata["target_directory"]
        .as_str()
        .map(PathBuf::from)
        .context("cargo metadata names no target directory")
}

#[derive(Default)]
struct Sum {
    passed: u64,
    failed: u64,
    /// The names of those that failed.
    failures: Vec<String>,
    succeeded: bool,
}

/// Runs `cargo test`, passes its output on, and adds up its result lines.
fn counted(command: &mut Command) -> Result<Sum> {
    println!("$ {}", process::line(command));
    let mut child = command.stdout(Stdio::piped()).spawn().context("starting cargo test")?;
    let output = child.stdout.take().context("standard output is piped")?;
    let mut sum = Sum::default();
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        let test = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"));
        sum.failures.extend(test.map(str::to_owned));
        if let Some((passed, failed)) = result_line(&line) {
            sum.passed += passed;
            sum.failed += failed;
        }
    }
    sum.succeeded = child.wait()?.success();
    Ok(sum)
}

/// `test result: ok. 12 passed; 0 failed; …` -> (12, 0).
fn result_line(line: &str) -> Option<(u64, u64)> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let number =
        |word: &str| counts.split("; ").find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok());
    Some((number("passed")?, number("failed")?))
}

/// Prints what the tests wrote about real servers: lines `ran|skipped TAB server TAB what`.
fn real_servers(report: &Path, missing: &[String]) -> Result<()> {
    let text = std::fs::read_to_string(report)?;
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.dedup();
    println!("\nOn real servers:");
    for line in &lines {
        let mut parts = line.split('\t');
        let (verdict, server, what) = (parts.next(), parts.next(), parts.next());
        println!("  {:<8}{:<16}{}", verdict.unwrap_or(""), server.unwrap_or(""), what.unwrap_or(""));
    }
    for reason in missing {
        println!("  MISSING {reason}");
    }
    if lines.is_empty() && missing.is_empty() {
        println!("  nothing (no test of this selection uses one)");
    }
    println!();
    Ok(())
}

/// Prints what the tests measured: lines `name TAB text`.
fn measured(figures: &Path) -> Result<()> {
    let text = std::fs::read_to_string(figures)?;
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    if lines.is_empty() {
        return Ok(());
    }
    println!("Figures:");
    for line in lines {
        let (name, text) = line.split_once('\t').unwrap_or((line, ""));
        println!("  {name}: {text}");
    }
    println!();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::result_line;

    #[test]
    fn result_lines_are_counted_and_others_are_not() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(result_line(line), Some((12, 3)));
        assert_eq!(result_line("test result_of_x ... ok"), None);
    }
}
