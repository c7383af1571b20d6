//! `cargo xtask check`: what a machine can say about the code's form.
//!
//! Formatting, lints, dependencies and the arrows between crates fail; headers and lengths are only reported.

mod arrows;
mod report;

use std::process::Command;

use anyhow::{Result, bail};

use crate::{cache, process};

const CARGO_DENY: &str = "0.19";

/// `cargo xtask check`.
pub(crate) fn run() -> Result<()> {
    let cargo = |words: &[&str]| {
        let mut command = Command::new("cargo");
        command.args(words).current_dir(cache::checkout());
        process::run(&mut command)
    };
    let results = [
        ("formatting", cargo(&["fmt", "--all", "--check"])),
        (
            "lints",
            cargo(&["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"]),
        ),
        ("arrows", arrows::check()),
        ("dependencies", dependencies()),
    ];
    report::print()?;
    let mut failed = false;
    for (what, result) in results {
        match result {
            Ok(()) => println!("{what}: ok"),
            Err(error) => {
                failed = true;
                println!("{what}: {error:#}");
            }
        }
    }
    if failed {
        bail!("the checks above failed");
    }
    Ok(())
}

/// `deny.toml` by cargo-deny, which is built into the cache once. Advisories need a database from the network: they are
/// asked for only where it can be had.
fn dependencies() -> Result<()> {
    let place = cache::once(&format!("cargo-deny-{CARGO_DENY}"), |draft| {
        let mut command = Command::new("cargo");
        command
            .args(["install", "--quiet", "--locked", "cargo-deny", "--version", CARGO_DENY, "--root"])
            .arg(draft);
        process::patient("building cargo-deny", &mut command)
    })?;
    let deny = |checks: &[&str]| {
        let mut command = Command::new(place.join("bin/cargo-deny"));
        command.args(["--all-features", "check"]).args(checks).current_dir(cache::checkout());
        process::run(&mut command)
    };
    deny(&["bans", "licenses", "sources"])
}
