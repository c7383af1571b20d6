//! The control groups of a cluster's pods: one folder at the top of each hierarchy of the host, called as its link is.
//! The kubelet wants it to be there, and nobody else removes it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::network::Network;

/// For the kernel to let go of groups whose last process has just ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes the cluster's group in every hierarchy, empty.
pub(crate) fn make(network: Network) -> Result<()> {
    remove(network).context("left by an earlier cluster")?;
    for path in folders(network)? {
        std::fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
    }
    Ok(())
}

/// Removes it with all that is below.
pub(crate) fn remove(network: Network) -> Result<()> {
    let start = Instant::now();
    for path in folders(network)? {
        while let Err(error) = remove_tree(&path) {
            if start.elapsed() > PATIENCE {
                return Err(error).with_context(|| format!("removing {}", path.display()));
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// The files of a group are the kernel's; only folders are removed, the deepest first.
fn remove_tree(path: &Path) -> io::Result<()> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let entries = match std::fs::read_dir(path) {
        Err(error) if gone(&error) => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match std::fs::remove_dir(path) {
        Err(error) if !gone(&error) => Err(error),
        _ => Ok(()),
    }
}

fn folders(network: Network) -> Result<Vec<PathBuf>> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("reading the mounts")?;
    Ok(hierarchies(&mounts).into_iter().map(|top| top.join(network.link())).collect())
}

/// Where the hierarchies of both versions are mounted.
fn hierarchies(mounts: &str) -> Vec<PathBuf> {
    let lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let groups = lines.filter_map(|words| match words.as_slice() {
        [_, path, "cgroup" | "cgroup2", ..] => Some(PathBuf::from(path)),
        _ => None,
    });
    groups.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions_are_found_among_the_mounts() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n/dev/vda / ext4 rw 0 0\n";
        let expected = ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/unified"].map(PathBuf::from);
        assert_eq!(hierarchies(mounts), expected);
    }
}
