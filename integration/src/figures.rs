//! What a test measured, for the summary of `cargo xtask test`: shown also when the test passes.

use std::io::Write;

/// Prints `FIGURE name: text` and hands it to the summary.
#[allow(clippy::disallowed_methods)] // how cargo xtask test says where the report is
pub fn figure(name: &str, text: &str) {
    println!("FIGURE {name}: {text}");
    let Some(path) = std::env::var_os("WEFT_FIGURES") else { return };
    // One short write to a file in append mode: lines of tests that run at once don't mix.
    if let Ok(mut file) = std::fs::OpenOptions::new().append(true).open(path) {
        let _ = file.write_all(format!("{name}\t{text}\n").as_bytes());
    }
}
