//! Debian packages: installed on the machine, or taken out of another suite without touching the machine's sources.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;

/// Installs packages from the machine's own suite.
pub(super) fn install(packages: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(["install", "-y", "--no-install-recommends"]).args(packages);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    let what = format!("installing {}", packages.join(" "));
    if process::patient(&what, &mut command).is_ok() {
        return Ok(());
    }
    // A fresh machine has no lists yet.
    process::patient("updating the package lists", Command::new("apt-get").arg("update"))?;
    process::patient(&what, &mut command).context("is this root on Debian?")
}

/// HAProxy's binary.
pub(super) fn haproxy(_: &str) -> Result<PathBuf> {
    installed("haproxy", "/usr/sbin/haproxy")
}

/// nginx's binary.
pub(super) fn nginx(_: &str) -> Result<PathBuf> {
    installed("nginx", "/usr/sbin/nginx")
}

/// strace's binary.
pub(super) fn strace(_: &str) -> Result<PathBuf> {
    installed("strace", "/usr/bin/strace")
}

/// iproute2's `ip`.
pub(super) fn ip(_: &str) -> Result<PathBuf> {
    if process::has("ip", "-V") {
        return Ok("ip".into());
    }
    installed("iproute2", "/usr/sbin/ip")
}

/// The library of libfaketime for programs with threads; its folder is called after the machine.
pub(super) fn faketime(_: &str) -> Result<PathBuf> {
    let library = format!("/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", std::env::consts::ARCH);
    installed("libfaketime", &library)
}

fn installed(package: &str, binary: &str) -> Result<PathBuf> {
    if !Path::new(binary).exists() {
        install(&[package])?;
    }
    Ok(binary.into())
}

/// Takes `file` out of `package` of another suite, to `folder`. Uses lists and archives of its own.
pub(super) fn unpack(suite: &str, package: &str, file: &str, folder: &Path) -> Result<()> {
    let root = tempfile::tempdir()?;
    let at = |path: &str| root.path().join(path);
    for path in ["lists/partial", "archives/partial", "tree"] {
        std::fs::create_dir_all(at(path))?;
    }
    std::fs::write(at("sources.list"), source(suite)?)?;
    std::fs::write(at("status"), "")?;
    let settings = [
        format!("Dir::Etc::sourcelist={}", at("sources.list").display()),
        "Dir::Etc::sourceparts=-".to_owned(),
        format!("Dir::State::lists={}", at("lists").display()),
        format!("Dir::State::status={}", at("status").display()),
        format!("Dir::Cache={}", root.path().display()),
        format!("Dir::Cache::archives={}", at("archives").display()),
        // The files are in a folder of root's; apt's own user could not write there.
        "APT::Sandbox::User=root".to_owned(),
        // An old suite is no longer renewed, so its lists may have passed their date.
        "Acquire::Check-Valid-Until=false".to_owned(),
    ];
    let apt = |words: &[&str]| {
        let mut command = Command::new("apt-get");
        for setting in &settings {
            command.args(["-o", setting]);
        }
        command.args(words).current_dir(root.path());
        command
    };
    process::patient(&format!("reading Debian {suite}'s list of packages"), &mut apt(&["update"]))?;
    process::patient(&format!("getting {package} of {suite}"), &mut apt(&["download", package]))?;
    let archive = std::fs::read_dir(root.path())?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "deb"))
        .with_context(|| format!("apt-get download {package} left no .deb"))?;
    process::run(Command::new("dpkg").arg("-x").arg(archive).arg(at("tree")))?;
    let name = Path::new(file).file_name().context("a file has a name")?;
    std::fs::copy(at("tree").join(file), folder.join(name))
        .with_context(|| format!("{package} has no {file}"))?;
    Ok(())
}

/// A source line for another suite, from the mirror that the machine itself uses.
fn source(suite: &str) -> Result<String> {
    let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
    for file in ["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"] {
        let Ok(text) = std::fs::read_to_string(file) else { continue };
        if let Some(mirror) = mirror(&text) {
            return Ok(format!("deb [signed-by={keyring}] {mirror} {suite} main\n"));
        }
    }
    bail!("no Debian mirror found in /etc/apt: is this Debian?")
}

/// The first mirror of the main archive in a sources file of either format.
fn mirror(sources: &str) -> Option<&str> {
    let lines = sources.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let words = lines.filter_map(|line| {
        if let Some(uris) = line.strip_prefix("URIs:") {
            return uris.split_whitespace().next();
        }
        line.strip_prefix("deb ")?.split_whitespace().find(|word| word.contains("://"))
    });
    words.into_iter().find(|uri| !uri.contains("security") && uri.trim_end_matches('/').ends_with("debian"))
}

#[cfg(test)]
mod tests {
    use super::mirror;

    #[test]
    fn the_mirror_is_read_from_both_formats_and_is_never_the_security_archive() {
        let deb822 = "Types: deb\nURIs: http://a.example/debian-security\n\nTypes: deb\n# URIs: x\nURIs: http://a.example/debian\n";
        assert_eq!(mirror(deb822), Some("http://a.example/debian"));
        let old = "deb [arch=amd64] https://b.example/debian/ bookworm main\n";
        assert_eq!(mirror(old), Some("https://b.example/debian/"));
        assert_eq!(mirror("deb https://c.example/apt stable main"), None);
    }
}
