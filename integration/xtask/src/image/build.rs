//! Static programs whose bytes don't depend on where they were built: every path of this machine is given a name of its
//! own before it can get into one.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{cache, process, test};

/// The machine's own target. It is named to Cargo, so that what runs during the build is not built statically too.
pub(super) fn target() -> Result<String> {
    let said = process::quiet(Command::new("rustc").arg("-vV").current_dir(cache::checkout()))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc names no host")?.to_owned())
}

/// Builds the programs of these packages; their names and contents.
pub(super) fn programs(packages: &[&str], profile: &str, target: &str) -> Result<Vec<(String, Vec<u8>)>> {
    let place = test::target_directory()?.join("image");
    let mut build = Command::new("cargo");
    build.args(["build", "--locked", "--bins", "--profile", profile, "--target", target]);
    // The name of a profile's folder is its own, but for one.
    let folder = if profile == "dev" { "debug" } else { profile };
    if profile == "dev" {
        // Lines of code for a debugger that nobody has in a pod would be two thirds of the image.
        build.args(["--config", "profile.dev.strip=\"debuginfo\""]);
    }
    for package in packages {
        build.args(["--package", package]);
    }
    let names = names(&place)?;
    build
        .arg("--target-dir")
        .arg(&place)
        .env("CARGO_ENCODED_RUSTFLAGS", rust_flags(&names))
        .env(format!("CFLAGS_{}", target.replace('-', "_")), c_flags(&names))
        // A C library says when it was compiled; this is when, for compilers that are asked so (reproducible-builds.org).
        .env("SOURCE_DATE_EPOCH", "0")
        .current_dir(cache::checkout());
    process::run(&mut build)?;
    let from = place.join(target).join(folder);
    packages
        .iter()
        .map(|package| {
            let path = from.join(package);
            let content = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            Ok(((*package).to_owned(), content))
        })
        .collect()
}

/// What paths of this machine are called inside: the checkout, what is built, and the sources of dependencies.
#[allow(clippy::disallowed_methods)] // Cargo has no other way to say where its home is
fn names(place: &Path) -> Result<Vec<(PathBuf, &'static str)>> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let checkout = cache::checkout().canonicalize().context("the checkout")?;
    // rustc takes the last that fits: the more special one stands behind.
    Ok(vec![
        (home.context("neither CARGO_HOME nor HOME is set")?, "/cargo"),
        (checkout, "/weft"),
        (place.to_owned(), "/weft/target"),
    ])
}

fn rust_flags(names: &[(PathBuf, &'static str)]) -> String {
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
    flags.extend(names.iter().map(|(path, name)| format!("--remap-path-prefix={}={name}", path.display())));
    // Cargo's separator, as a path may have spaces.
    flags.join("\u{1f}")
}

fn c_flags(names: &[(PathBuf, &'static str)]) -> String {
    let flags = names.iter().map(|(path, name)| format!("-ffile-prefix-map={}={name}", path.display()));
    flags.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_named_for_both_compilers() {
        let names = [(PathBuf::from("/home/a b/weft"), "/weft")];
        let rust = "-Ctarget-feature=+crt-static\u{1f}--remap-path-prefix=/home/a b/weft=/weft";
        assert_eq!(rust_flags(&names), rust);
        assert_eq!(c_flags(&names), "-ffile-prefix-map=/home/a b/weft=/weft");
    }
}
