//! The candidates: who can be put between client and backend, as a pair of sidecars or as one hop.

mod envoy;
mod haproxy;
mod nginx;
mod weft;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use tokio::process::Command;
use weft_integration::Process;

use crate::proxy::certificates::Files;
use crate::proxy::scenario::Scenario;

/// What a candidate is put into.
pub(crate) struct Place<'a> {
    pub(crate) scenario: Scenario,
    /// The application.
    pub(crate) backend: SocketAddr,
    pub(crate) files: &'a Files,
    /// For configurations and logs.
    pub(crate) directory: &'a Path,
}

/// A running candidate: two processes, or one.
pub(crate) struct Running {
    /// Where the client goes.
    pub(crate) entry: SocketAddr,
    /// The processes that are measured.
    pub(crate) pids: Vec<u32>,
    /// How the peer was configured, file by file.
    pub(crate) configuration: Vec<String>,
    /// The peer's processes, for what they say when they don't come up.
    processes: Vec<Process>,
    /// What must live as long.
    _keep: Vec<Box<dyn std::any::Any>>,
}

impl Running {
    /// What its processes printed.
    pub(crate) fn log(&self) -> String {
        self.processes.iter().map(Process::log).collect()
    }
}

/// The candidates' names, in the order of measuring.
pub(crate) const NAMES: &[&str] = &["direct", "weft", "envoy", "haproxy", "nginx"];

/// Starts a candidate. `None`: it is not to be had here.
pub(crate) async fn start(name: &str, place: &Place<'_>) -> Result<Option<Running>> {
    match name {
        "weft" => weft::start(place).await.map(Some),
        "envoy" => envoy::start(place),
        "haproxy" => haproxy::start(place),
        "nginx" => nginx::start(place),
        _ => Ok(Some(Running {
            entry: place.backend,
            pids: vec![],
            configuration: vec![],
            processes: vec![],
            _keep: vec![],
        })),
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
pub(crate) fn variable_path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from).filter(|path| path.exists())
}

/// One process of a peer that is to be started.
struct Half {
    name: &'static str,
    configuration: String,
    arguments: Vec<String>,
}

/// Starts a peer's processes.
fn launch(program: &Path, entry: SocketAddr, halves: Vec<Half>, directory: &Path) -> Result<Running> {
    let (mut processes, mut configuration) = (Vec::new(), Vec::new());
    for half in halves {
        let mut command = Command::new(program);
        command.args(half.arguments);
        processes.push(Process::start(half.name, command, directory)?);
        let text = half.configuration.replace(&*directory.to_string_lossy(), "DIRECTORY");
        configuration.push(format!("{}:\n{text}", half.name));
    }
    let pids = processes.iter().map(Process::pid).collect::<Result<_>>()?;
    Ok(Running { entry, pids, configuration, processes, _keep: vec![] })
}

fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], weft_integration::free_port()))
}
