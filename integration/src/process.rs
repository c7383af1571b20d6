//! A child process with its log file. It never outlives its handle.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// A running child.
pub struct Process {
    child: Child,
    log: PathBuf,
    name: String,
}

impl Process {
    /// Starts a command; what it prints goes to `<directory>/<name>.log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, mut command: Command, directory: &Path) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        Ok(Self { child, log, name: name.to_owned() })
    }

    /// One of the mesh's own programs.
    ///
    /// # Errors
    /// When it has not been built.
    #[allow(clippy::disallowed_methods)] // how cargo xtask test says where the programs are
    pub fn program(name: &str) -> Result<PathBuf> {
        let directory = match std::env::var_os("WEFT_BIN") {
            Some(directory) => PathBuf::from(directory),
            // A test's own executable is in <target>/debug/deps.
            None => {
                std::env::current_exe()?.ancestors().nth(2).context("an executable is in a directory")?.into()
            }
        };
        let path = directory.join(name);
        if !path.exists() {
            bail!("{} is not there: cargo build --workspace --bins", path.display());
        }
        Ok(path)
    }

    /// Its process id.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pid(&self) -> Result<u32> {
        self.child.id().with_context(|| format!("{} has ended", self.name))
    }

    /// Whether it has ended by itself, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// All that it printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.pid()?.cast_signed()).context("a process id is not 0")?;
        kill_process(pid, signal).with_context(|| format!("signalling {}", self.name))
    }

    /// SIGKILL, and waits for its end.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.with_context(|| format!("killing {}", self.name))
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// When it has not ended after `patience`; it is killed then.
    pub async fn stop(&mut self, patience: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.ended() {
            return Ok(status);
        }
        self.signal(Signal::TERM)?;
        match tokio::time::timeout(patience, self.child.wait()).await {
            Ok(ended) => Ok(ended?),
            Err(_) => {
                self.kill().await?;
                bail!("{} did not end within {patience:?} of SIGTERM", self.name)
            }
        }
    }
}
