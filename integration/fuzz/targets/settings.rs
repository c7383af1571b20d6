//! A program's settings file and one flag: any text gives settings or an error that says where.

#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;
use weft_process::settings::Sources;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    // After a line of three dashes comes one `--set`.
    let (file, flag) = text.split_once("\n---\n").unwrap_or((&text, ""));
    let mut kept = tempfile::NamedTempFile::new().expect("a temporary file");
    kept.write_all(file.as_bytes()).expect("a temporary file");
    let mut sources = Sources::default().file(Some(kept.path())).expect("it is there");
    if !flag.is_empty() {
        match sources.set(flag) {
            Ok(with) => sources = with,
            Err(error) => return assert!(error.to_string().starts_with("settings: ")),
        }
    }
    match sources.read::<weft_ca::settings::Settings>() {
        Ok(settings) => drop(format!("{settings:?}")),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
