//! The end of a cluster, after which nothing of it is left on the machine: neither of one that runs nor of one that died.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

use crate::files::Folder;
use crate::record::{Name, Process, RECORD, Record, folders};
use crate::running::Cluster;
use crate::{cgroups, link};

/// For killed processes to be gone, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ends the cluster of this name, or takes away what is left of it.
///
/// # Errors
/// When there is nothing of it, or something can't be taken away.
pub fn down(home: &Path, name: &Name) -> Result<()> {
    let folder = Folder(home.join(name.as_str()));
    if !folder.0.exists() {
        bail!("there is no cluster {name}");
    }
    remove(&folder)
}

/// The clusters that run under a home.
///
/// # Errors
/// When the home can't be read.
pub fn list(home: &Path) -> Result<Vec<Cluster>> {
    let names =
        folders(home)?.into_iter().filter_map(|folder| Record::read(&folder)).map(|record| record.name);
    Ok(names.filter_map(|name| Cluster::open(home, &name).ok()).collect())
}

/// Takes away what dead clusters left: one that was killed together with its owner had nobody to do it.
pub(crate) fn sweep(home: &Path) -> Result<()> {
    for folder in folders(home)? {
        if Record::read(&folder).is_some_and(|record| !record.first.lives()) {
            remove(&folder).with_context(|| format!("sweeping {}", folder.0.display()))?;
        }
    }
    Ok(())
}

/// Ends everything in the cluster and removes all that is outside its namespaces: link, control groups, folder.
pub(crate) fn remove(folder: &Folder) -> Result<()> {
    // Two may find the same dead cluster. The second must not take away what a new one has made in the slot since.
    let lock = std::fs::File::open(folder.path(RECORD));
    if let Ok(lock) = &lock {
        flock(lock, FlockOperation::LockExclusive).context("locking the record")?;
    }
    if let Some(record) = Record::read(folder) {
        // Held open, the namespace keeps the link, and the link the slot, until all that belongs to it is gone.
        let _namespace = std::fs::File::open(format!("/proc/{}/ns/net", record.first.pid));
        // A start that failed early has named itself there.
        if record.first.pid != std::process::id() {
            kill(record.first)?;
        }
        if let Some(network) = record.network
            && link::still_has(network, &folder.0)?
        {
            cgroups::remove(network)?;
            link::cut(network)?;
        }
    }
    match std::fs::remove_dir_all(&folder.0) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        removed => removed.with_context(|| format!("removing {}", folder.0.display()))?,
    }
    // The home goes with its last cluster; that it is not empty is the usual case.
    let _ = folder.0.parent().map(std::fs::remove_dir);
    Ok(())
}

/// Kills the first process of the namespaces. It is gone when all others there are.
fn kill(first: Process) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    let pid = Pid::from_raw(first.pid.cast_signed()).context("a process id is not 0")?;
    while first.lives() {
        kill_process(pid, Signal::KILL).context("killing the node")?;
        if Instant::now() > end {
            bail!("the node {} is still there {} s after it was killed", first.pid, PATIENCE.as_secs());
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    Ok(())
}
