//! A child process of the demo with its log file. It never outlives its handle.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::process::{Child, Command};

/// A running child.
pub(super) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program`; what it prints goes to `<directory>/<name>.log`.
    pub(super) fn start(name: &str, program: &Path, arguments: &[&str], directory: &Path) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log)?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| {
                format!("starting {}: is it built? (cargo build --release)", program.display())
            })?;
        Ok(Self { child, log })
    }

    /// Whether it has ended by itself, and how.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The last lines that it printed.
    pub(super) fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }

    /// SIGKILL: it gets no chance to say goodbye.
    pub(super) async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.context("killing a child process")
    }

    /// SIGTERM, and SIGKILL to one that has not ended after `patience`.
    pub(super) async fn stop(mut self, patience: Duration) -> Result<()> {
        if let Some(pid) = self.child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed())) {
            // It may have ended a moment ago.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        match tokio::time::timeout(patience, self.child.wait()).await {
            Ok(ended) => ended.map(|_| ()).context("waiting for a child process"),
            Err(_) => self.kill().await,
        }
    }
}
