//! A cluster for a test: a keeper process brings it up, and takes it away when the test is done or dead.
//!
//! The keeper reads its standard input, which only the test has the other end of. So whatever ends the test, an assertion
//! or SIGKILL, nothing of the cluster is left a moment later.

use std::io::{BufRead, BufReader, Read, Write};
use std::ops::Deref;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cluster::{Keep, Plan, start};
use crate::record::Name;
use crate::running::Cluster;

/// The word of a keeper whose cluster is ready.
const READY: &str = "ready";

/// A cluster that ends with this handle.
pub struct Kept {
    keeper: Child,
    cluster: Cluster,
}

impl Kept {
    /// Starts one by the program `weft-cluster`, which takes its tools from the environment.
    ///
    /// # Errors
    /// With what the keeper said.
    pub fn start(program: &Path, home: &Path, name: &Name) -> Result<Self> {
        let errors = tempfile::NamedTempFile::new()?;
        let mut command = Command::new(program);
        command.arg("hold").arg(home).arg(name.as_str());
        // A group of its own: a signal from the terminal ends the test, and the keeper still clears up.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors.reopen()?).process_group(0);
        let mut keeper = command.spawn().with_context(|| format!("starting {}", program.display()))?;
        let mut word = String::new();
        let output = keeper.stdout.take().context("standard output is a pipe")?;
        BufReader::new(output).read_line(&mut word)?;
        if word.trim() != READY {
            keeper.wait()?;
            bail!("no cluster: {}", std::fs::read_to_string(errors.path())?.trim());
        }
        match Cluster::open(home, name) {
            Ok(cluster) => Ok(Self { keeper, cluster }),
            Err(error) => {
                release(&mut keeper);
                Err(error)
            }
        }
    }
}

impl Deref for Kept {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        release(&mut self.keeper);
    }
}

/// Lets the keeper clear up, and waits until it has.
fn release(keeper: &mut Child) {
    drop(keeper.stdin.take());
    match keeper.wait() {
        Ok(status) if status.success() => {}
        other => eprintln!("the cluster's keeper: {other:?}"),
    }
}

/// Is the keeper: brings the cluster up, says so, and takes it away when its input ends.
pub(crate) fn hold(plan: &Plan) -> Result<()> {
    let cluster = start(plan, Keep::WithHandle)?;
    // Who waited for it may be gone; its end is noticed in the next line then.
    let _ = writeln!(std::io::stdout(), "{READY}");
    std::io::stdin().lock().read_to_end(&mut Vec::new())?;
    cluster.down()
}
