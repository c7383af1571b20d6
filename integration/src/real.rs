//! What ran on real servers, for the summary of `cargo xtask test`.

use std::io::Write;

/// A test ran on a real server.
pub fn ran_on(server: &str, what: &str) {
    report("ran", server, what);
}

/// A test could not run, as the server is not to be had; says so at once as well.
pub fn skipped_on(server: &str, what: &str) {
    eprintln!("SKIPPED: {what}: no {server} (cargo xtask tools gets it)");
    report("SKIPPED", server, what);
}

/// A test could not run for another reason; says so at once as well.
pub fn skipped(what: &str, why: &str) {
    eprintln!("SKIPPED: {what}: {why}");
    report("SKIPPED", why, what);
}

#[allow(clippy::disallowed_methods)] // how cargo xtask test says where the report is
fn report(verdict: &str, server: &str, what: &str) {
    let Some(path) = std::env::var_os("WEFT_REAL_REPORT") else { return };
    // One short write to a file in append mode: lines of tests that run at once don't mix.
    if let Ok(mut file) = std::fs::OpenOptions::new().append(true).open(path) {
        let _ = file.write_all(format!("{verdict}\t{server}\t{what}\n").as_bytes());
    }
}
