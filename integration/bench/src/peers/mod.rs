//! The candidates: who can be put between client and backend as a pair of sidecars.

mod envoy;
mod haproxy;
mod nginx;
mod weft;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use tokio::process::Command;
use weft_integration::Process;

use crate::certificates::Files;

/// A running pair.
pub(crate) struct Pair {
    /// Where the client goes.
    pub(crate) entry: SocketAddr,
    /// The processes that are measured.
    pub(crate) pids: Vec<u32>,
    /// The peer's processes, for what they say when they don't come up.
    halves: Vec<Process>,
    /// What must live as long.
    _keep: Vec<Box<dyn std::any::Any>>,
}

impl Pair {
    /// What its processes printed.
    pub(crate) fn log(&self) -> String {
        self.halves.iter().map(Process::log).collect()
    }
}

/// The candidates' names, in the order of measuring.
pub(crate) const NAMES: &[&str] = &["direct", "weft", "envoy", "haproxy", "nginx"];

/// Starts a pair in front of `backend`. `None`: this candidate is not to be had here.
pub(crate) async fn start(
    name: &str,
    backend: SocketAddr,
    files: &Files,
    directory: &Path,
) -> Result<Option<Pair>> {
    match name {
        "weft" => weft::start(backend).await.map(Some),
        "envoy" => envoy::start(backend, files, directory),
        "haproxy" => haproxy::start(backend, files, directory),
        "nginx" => nginx::start(backend, files, directory),
        _ => Ok(Some(Pair { entry: backend, pids: vec![], halves: vec![], _keep: vec![] })),
    }
}

/// What a candidate says of its version.
pub(crate) fn version(name: &str) -> String {
    let ask = |variable: &str, argument: &str| {
        let program = variable_path(variable)?;
        let output = std::process::Command::new(program).arg(argument).output().ok()?;
        let said = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&said)
            .lines()
            .find(|line| !line.trim().is_empty())
            .map(|line| line.trim().to_owned())
    };
    let said = match name {
        "weft" => Some(format!("weft-proxy {}", env!("CARGO_PKG_VERSION"))),
        "envoy" => ask("WEFT_ENVOY", "--version"),
        "haproxy" => ask("WEFT_HAPROXY", "-v"),
        "nginx" => ask("WEFT_NGINX", "-v"),
        _ => Some("no proxy".to_owned()),
    };
    // Envoy says its own path first.
    said.map(|said| said.rsplit("version: ").next().unwrap_or(&said).to_owned()).unwrap_or_default()
}

#[allow(clippy::disallowed_methods)] // how cargo xtask bench says where the peers are
fn variable_path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from).filter(|path| path.exists())
}

/// Starts one half of a pair.
fn half(name: &str, program: &Path, arguments: &[&str], directory: &Path) -> Result<Process> {
    let mut command = Command::new(program);
    command.args(arguments);
    Process::start(name, command, directory)
}

fn pair(entry: SocketAddr, halves: Vec<Process>) -> Result<Pair> {
    let pids = halves.iter().map(Process::pid).collect::<Result<_>>()?;
    Ok(Pair { entry, pids, halves, _keep: vec![] })
}

fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], weft_integration::free_port()))
}
