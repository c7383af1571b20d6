//! Which cluster the demo uses: one that was named, or the one that was started for such things. Never the current
//! context of whoever types the command, which may be production.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// The kubeconfig of the cluster.
pub(super) fn kubeconfig(given: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(given) = given {
        // The control plane runs in another folder.
        return Ok(std::path::absolute(given)?);
    }
    one_of(started(&clusters().unwrap_or_default()))
}

fn one_of(mut started: Vec<PathBuf>) -> Result<PathBuf> {
    let words: Vec<String> =
        started.iter().map(|path| format!("  --kubeconfig {}", path.display())).collect();
    match (started.pop(), started.is_empty()) {
        (Some(path), true) => Ok(path),
        (Some(_), false) => bail!("several test clusters run; say which:\n{}", words.join("\n")),
        (None, _) => bail!(
            "no cluster: `weft demo --kubernetes` uses no cluster that was not named. Name one with --kubeconfig FILE \
             (its current context is used), or start one on this machine: cargo xtask cluster up"
        ),
    }
}

/// The kubeconfigs of the clusters in a folder, in order.
fn started(clusters: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(clusters).into_iter().flatten().filter_map(Result::ok);
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path().join("kubeconfig")).collect();
    files.retain(|file| file.is_file());
    files.sort();
    files
}

/// Where `cargo xtask cluster up` keeps them.
fn clusters() -> Option<PathBuf> {
    let from = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = from("WEFT_CACHE")
        .or_else(|| from("XDG_CACHE_HOME").map(|home| home.join("weft")))
        .or_else(|| from("HOME").map(|home| home.join(".cache/weft")));
    cache.map(|cache| cache.join("clusters"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_started_cluster_needs_no_name() {
        let home = tempfile::tempdir().unwrap();
        let error = one_of(started(home.path())).unwrap_err().to_string();
        assert!(error.contains("cargo xtask cluster up") && error.contains("--kubeconfig"), "{error}");
        for name in ["a", "b"] {
            let folder = home.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            // What is left of a cluster that is down has no kubeconfig.
            assert!(started(home.path()).len() < 2);
            std::fs::write(folder.join("kubeconfig"), "").unwrap();
            if name == "a" {
                assert_eq!(one_of(started(home.path())).unwrap(), folder.join("kubeconfig"));
            }
        }
        let error = one_of(started(home.path())).unwrap_err().to_string();
        assert!(error.contains("a/kubeconfig") && error.contains("b/kubeconfig"), "{error}");
    }
}
