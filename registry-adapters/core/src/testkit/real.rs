//! Real servers for the tests of adapters: where their programs are, and the summary of what ran on them.

use std::env;
use std::fs::OpenOptions;
use std::io::{Write, stderr};
use std::path::PathBuf;

/// A test tool: what `variable` names, else `cached` in the cache of test tools. `None` where it is not there.
pub fn tool(variable: &str, cached: &str) -> Option<PathBuf> {
    let named = named(variable).or_else(|| Some(cache()?.join(cached)));
    named.filter(|path| path.exists())
}

/// The running test runs on a real `server`.
pub fn ran_on(server: &str) {
    report("ran", server);
}

/// The running test is skipped, as a real `server` is not to be had; says so loudly.
pub fn skipped_on(server: &str) {
    // Straight to stderr: the test harness shows what a passing test prints to nobody.
    let _best_effort = writeln!(
        stderr(),
        "SKIPPED on real {server}: its programs are not found (cargo xtask tools gets them)"
    );
    report("SKIPPED", server);
}

/// Where test tools are kept: `$XDG_CACHE_HOME/weft/tools`, else `$HOME/.cache/weft/tools`.
fn cache() -> Option<PathBuf> {
    let cache = named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")))?;
    Some(cache.join("weft").join("tools"))
}

#[allow(clippy::disallowed_methods)] // there are no settings of a test
fn named(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// A line for the summary of `cargo xtask test`, which says by this variable where it reads: the running test is the thread's name.
fn report(verdict: &str, server: &str) {
    let Some(path) = named("WEFT_REAL_REPORT") else { return };
    let thread = std::thread::current();
    let line = format!("{verdict}\t{server}\t{}\n", thread.name().unwrap_or("a test"));
    // One short write in append mode: lines of tests that run at once don't mix.
    if let Ok(mut file) = OpenOptions::new().create(true).append(true).open(path) {
        let _best_effort = file.write_all(line.as_bytes());
    }
}
