//! `cargo xtask fuzz`: coverage-guided fuzzing of everything that reads bytes from outside.
//!
//! cargo-fuzz builds the targets of `integration/fuzz` (without sanitizers: no code of ours there is unsafe, and it is
//! twice as fast); each is then started directly. Its committed corpus is replayed first and never written to: what is new
//! goes to the target directory. A failing input is kept there too, with the command that replays it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

use crate::{cache, process, test};

const CARGO_FUZZ: &str = "0.13";
/// Without sanitizers there is nothing to gain from other triples.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// One a core: libFuzzer is single-threaded.
const AT_ONCE: usize = 2;

/// `cargo xtask fuzz`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these targets; default: all.
    targets: Vec<String>,
    /// Seconds for each target, after its corpus was replayed.
    #[arg(long, default_value_t = 600)]
    seconds: u32,
    /// Run one target on this input only.
    #[arg(long, requires = "targets")]
    replay: Option<PathBuf>,
}

/// `cargo xtask fuzz`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let known = targets()?;
    if let Some(unknown) = args.targets.iter().find(|target| !known.contains(target)) {
        bail!("there is no target {unknown}; there are {}", known.join(", "));
    }
    let wanted = if args.targets.is_empty() { known } else { args.targets.clone() };
    let place = Place::build()?;
    if let (Some(input), [target]) = (&args.replay, wanted.as_slice()) {
        return process::run(Command::new(place.program(target)).arg(input));
    }
    let failed = place.all(&wanted, args.seconds)?;
    if failed > 0 {
        bail!("{failed} targets failed");
    }
    Ok(())
}

/// All targets for `seconds` each; how many passed and failed.
pub(crate) fn short(seconds: u32) -> Result<(u64, u64)> {
    let wanted = targets()?;
    let failed = Place::build()?.all(&wanted, seconds)?;
    Ok((wanted.len() as u64 - failed, failed))
}

fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory().join("targets"))? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

fn directory() -> PathBuf {
    cache::checkout().join("integration/fuzz")
}

/// Where the built targets are, and where they leave what they find.
struct Place {
    target_directory: PathBuf,
}

impl Place {
    fn build() -> Result<Self> {
        let tool = cache::once(&format!("cargo-fuzz-{CARGO_FUZZ}"), |draft| {
            let mut command = Command::new("cargo");
            command
                .args(["install", "--quiet", "--locked", "cargo-fuzz", "--version", CARGO_FUZZ, "--root"])
                .arg(draft);
            process::patient("building cargo-fuzz", &mut command)
        })?;
        let target_directory = test::target_directory()?.join("fuzz");
        let mut build = Command::new(tool.join("bin/cargo-fuzz"));
        build.args(["build", "--sanitizer", "none", "--target", TRIPLE, "--fuzz-dir"]).arg(directory());
        build.arg("--target-dir").arg(&target_directory);
        // Coverage instrumentation is a compiler flag that stable keeps to itself.
        build.env("RUSTC_BOOTSTRAP", "1").env_remove("CARGO_TARGET_DIR").current_dir(directory());
        process::run(&mut build)?;
        Ok(Self { target_directory })
    }

    fn program(&self, target: &str) -> PathBuf {
        self.target_directory.join(TRIPLE).join("release").join(target)
    }

    /// Runs them, some at a time, and returns how many failed.
    fn all(&self, targets: &[String], seconds: u32) -> Result<u64> {
        let mut failed = 0;
        for some in targets.chunks(AT_ONCE) {
            let started: Vec<Run> =
                some.iter().map(|target| self.start(target, seconds)).collect::<Result<_>>()?;
            for run in started {
                failed += u64::from(!run.finish()?);
            }
        }
        Ok(failed)
    }

    fn start(&self, target: &str, seconds: u32) -> Result<Run> {
        let [found, failures] =
            ["found", "failures"].map(|kind| self.target_directory.join(kind).join(target));
        for folder in [&found, &failures] {
            std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        let log = failures.join("log");
        let mut command = Command::new(self.program(target));
        command
            .arg(&found)
            .arg(directory().join("corpus").join(target))
            .arg(format!("-max_total_time={seconds}"))
            // A parser that takes longer for one small input is a finding.
            .args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"])
            .arg(format!("-artifact_prefix={}/", failures.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?);
        let child = command.spawn().with_context(|| format!("starting {}", process::line(&command)))?;
        Ok(Run { target: target.to_owned(), child, log })
    }
}

/// One target at work.
struct Run {
    target: String,
    child: Child,
    log: PathBuf,
}

impl Run {
    fn finish(mut self) -> Result<bool> {
        let status = self.child.wait()?;
        let log = std::fs::read_to_string(&self.log)?;
        let stat = |name: &str| {
            let line = log.lines().find_map(|line| line.strip_prefix(&format!("stat::{name}:")));
            line.map_or("?", str::trim).to_owned()
        };
        let (runs, rate) = (stat("number_of_executed_units"), stat("average_exec_per_sec"));
        let verdict = if status.success() { "ok" } else { "FAILED" };
        println!("fuzz {} ... {verdict} ({runs} inputs, {rate} a second)", self.target);
        if !status.success() {
            self.explain(status, &log);
        }
        Ok(status.success())
    }

    fn explain(&self, status: ExitStatus, log: &str) {
        let panic = log.lines().skip_while(|line| !line.contains("panicked at")).take(4);
        let summary = log.lines().filter(|line| line.starts_with("==") || line.starts_with("SUMMARY"));
        panic.chain(summary).for_each(|line| println!("    {line}"));
        if !log.contains("SUMMARY") {
            // A stack that is used up leaves libFuzzer no room to say anything.
            println!(
                "    {status}, without a word; under a debugger, with the `Seed` in {}:",
                self.log.display()
            );
            println!("    the arguments of the last caller in the backtrace are the input");
        }
        let input =
            log.lines().find_map(|line| line.split_once("Test unit written to ")).map(|(_, path)| path);
        if let Some(input) = input.map(Path::new) {
            println!("replay it: cargo xtask fuzz {} --replay {}", self.target, input.display());
            println!("then keep it: integration/fuzz/corpus/{}/", self.target);
        }
    }
}
