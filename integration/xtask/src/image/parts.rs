//! What is linked into a program: the packages that Cargo resolves for it, without what only runs during the build, and
//! the libraries that come with the toolchain.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cache, process};

/// One part.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) version: String,
    /// An SPDX expression; empty where none is stated.
    pub(super) license: String,
    /// SHA-256 of the registry's archive; `None` for what is ours, or not from a registry.
    pub(super) checksum: Option<String>,
}

/// The version of the packages, which is one.
pub(super) fn version(packages: &[&str]) -> Result<String> {
    let first = packages.first().context("an image has a program")?;
    let mut command = Command::new("cargo");
    command.args(["tree", "--locked", "--depth=0", "--prefix=none", "--format={p}", "--package", first]);
    let said = process::quiet(command.current_dir(cache::checkout()))?;
    let version = said.lines().next().and_then(name_and_version).map(|(_, version)| version.to_owned());
    version.with_context(|| format!("cargo tree says {said:?} of {first}"))
}

/// All parts of the programs of these packages, in order.
pub(super) fn of(packages: &[&str], target: &str) -> Result<Vec<Part>> {
    let mut command = Command::new("cargo");
    command.args(["tree", "--locked", "--edges=normal,no-proc-macro", "--target", target]);
    command.args(["--prefix=none", "--no-dedupe", "--format={p}\t{l}"]);
    for package in packages {
        command.args(["--package", package]);
    }
    let tree = process::quiet(command.current_dir(cache::checkout()))?;
    let lock = std::fs::read_to_string(cache::checkout().join("Cargo.lock")).context("reading Cargo.lock")?;
    let mut parts = linked(&tree, &checksums(&lock))?;
    let rustc = process::quiet(Command::new("rustc").arg("-vV").current_dir(cache::checkout()))?;
    let libc = process::quiet(Command::new("getconf").arg("GNU_LIBC_VERSION"))?;
    parts.extend(toolchain(&rustc, &libc)?);
    Ok(parts.into_iter().collect())
}

/// The lines of `cargo tree`, each once.
fn linked(tree: &str, checksums: &BTreeMap<(&str, &str), &str>) -> Result<BTreeSet<Part>> {
    let mut parts = BTreeSet::new();
    for line in tree.lines().filter(|line| !line.trim().is_empty()) {
        let (package, license) =
            line.split_once('\t').with_context(|| format!("cargo tree says {line:?}"))?;
        let (name, version) =
            name_and_version(package).with_context(|| format!("cargo tree says {package:?}"))?;
        parts.insert(Part {
            name: name.to_owned(),
            version: version.to_owned(),
            // Cargo's old way to write a choice.
            license: license.trim().replace('/', " OR "),
            checksum: checksums.get(&(name, version)).map(|&sum| sum.to_owned()),
        });
    }
    Ok(parts)
}

/// `serde v1.0.229 (…)` -> (serde, 1.0.229).
fn name_and_version(package: &str) -> Option<(&str, &str)> {
    let mut words = package.split_whitespace();
    Some((words.next()?, words.next()?.strip_prefix('v')?))
}

/// Checksums by name and version, as Cargo writes its lock file: one key a line.
fn checksums(lock: &str) -> BTreeMap<(&str, &str), &str> {
    let packages = lock.split("[[package]]");
    packages
        .filter_map(|package| {
            let of = |key: &str| {
                let line = package.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "))?;
                Some(line.trim_matches('"'))
            };
            Some(((of("name")?, of("version")?), of("checksum")?))
        })
        .collect()
}

/// Rust's standard library and the C library, which are linked statically too.
fn toolchain(rustc: &str, libc: &str) -> Result<[Part; 2]> {
    let part = |name: &str, version: Option<&str>, license: &str| {
        let Some(version) = version else { bail!("no version of {name} is known") };
        let (name, version) = (name.to_owned(), version.trim().to_owned());
        Ok(Part { name, version, license: license.to_owned(), checksum: None })
    };
    let release = rustc.lines().find_map(|line| line.strip_prefix("release: "));
    Ok([
        part("rust-std", release, "MIT OR Apache-2.0")?,
        part("glibc", libc.strip_prefix("glibc "), "LGPL-2.1-or-later")?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = r#"version = 4

[[package]]
name = "bytes"
version = "1.0.0"
source = "registry+https://github.com/rust-lang/crates.io-index"
checksum = "abc"

[[package]]
name = "weft-model"
version = "0.1.0"
dependencies = [
 "bytes",
]
"#;

    #[test]
    fn each_package_of_the_tree_is_one_part_with_its_checksum() {
        let tree = "weft-model v0.1.0 (/x/model)\tApache-2.0\nbytes v1.0.0\tMIT/Apache-2.0\nbytes v1.0.0\tMIT/Apache-2.0\n\n";
        let parts: Vec<Part> = linked(tree, &checksums(LOCK)).unwrap().into_iter().collect();
        assert_eq!(parts.len(), 2);
        let bytes = &parts[0];
        assert_eq!((bytes.name.as_str(), bytes.version.as_str()), ("bytes", "1.0.0"));
        assert_eq!((bytes.license.as_str(), bytes.checksum.as_deref()), ("MIT OR Apache-2.0", Some("abc")));
        assert_eq!(parts[1].checksum, None);
    }

    #[test]
    fn a_tree_that_is_not_understood_is_an_error_and_not_a_shorter_list() {
        assert!(linked("what is this", &BTreeMap::new()).is_err());
        assert!(linked("bytes 1.0\tMIT", &BTreeMap::new()).is_err());
    }

    #[test]
    fn the_libraries_of_the_toolchain_are_parts_too() {
        let [std, libc] = toolchain("rustc 1.95.0\nrelease: 1.95.0\n", "glibc 2.36\n").unwrap();
        assert_eq!((std.version.as_str(), libc.version.as_str()), ("1.95.0", "2.36"));
        assert!(toolchain("rustc", "musl").is_err());
    }
}
