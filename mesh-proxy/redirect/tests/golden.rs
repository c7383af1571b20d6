//! The rules for many settings as text, and that `nft` takes each of them.
//!
//! `tests/golden/NAME.json` are settings as the annotation has them, `NAME.nft` the rules. To take over a change of the rules
//! that is meant: `cargo run -p weft-redirect -- rules --settings "$(cat NAME.json)" > NAME.nft`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use weft_redirect::RedirectSettings;

fn goldens() -> Result<Vec<PathBuf>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut settings: Vec<_> =
        fs::read_dir(&directory)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    settings.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    settings.sort();
    ensure!(settings.len() >= 10, "only {} settings in {}", settings.len(), directory.display());
    Ok(settings)
}

#[test]
fn every_settings_have_the_rules_that_their_golden_file_shows() -> Result<()> {
    for path in goldens()? {
        let settings = RedirectSettings::parse(fs::read_to_string(&path)?.trim())
            .with_context(|| path.display().to_string())?;
        let golden = path.with_extension("nft");
        let wanted = fs::read_to_string(&golden).with_context(|| golden.display().to_string())?;
        assert_eq!(settings.ruleset().to_string(), wanted, "{}", golden.display());
    }
    Ok(())
}

#[test]
fn nft_takes_every_golden_file() -> Result<()> {
    if Command::new("nft").arg("--version").output().is_err() {
        weft_integration::skipped("nft takes every golden file", "no nft (Debian package nftables)");
        return Ok(());
    }
    for path in goldens()? {
        let golden = path.with_extension("nft");
        // With `--check` nothing is changed, but the kernel is asked all the same, in a namespace that nobody uses.
        let output =
            Command::new("unshare").args(["--net", "nft", "--check", "--file"]).arg(&golden).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        if said.contains("Operation not permitted") {
            weft_integration::skipped("nft takes every golden file", "not root");
            return Ok(());
        }
        ensure!(output.status.success(), "{}: {said}", golden.display());
    }
    weft_integration::ran_on("nft", "takes every golden file");
    Ok(())
}
