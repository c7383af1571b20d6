//! Work of a test inside another network namespace: a pod's, so that the test is the application there.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::sync::oneshot;

/// Runs `work` with its sockets in `namespace`, on a thread and a runtime of their own.
///
/// # Errors
/// When the namespace can't be entered, or the work fails.
pub async fn inside<T, F>(namespace: &Path, work: impl FnOnce() -> F + Send + 'static) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>>,
{
    let namespace = namespace.to_owned();
    let (done, result) = oneshot::channel();
    let run = move || {
        let worked = enter(&namespace).and_then(|()| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(work())
        });
        // The test that waited for it may have ended.
        _ = done.send(worked);
    };
    // The thread never leaves the namespace, and ends with the work.
    std::thread::Builder::new().name("inside".to_owned()).spawn(run)?;
    result.await.context("the work inside the namespace panicked")?
}

fn enter(namespace: &Path) -> Result<()> {
    let file = File::open(namespace).with_context(|| format!("opening {}", namespace.display()))?;
    let moved = move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network));
    moved.with_context(|| format!("entering {}", namespace.display()))
}

/// The network namespace of a pod on this machine, by the pod's uid.
///
/// # Errors
/// When no process of the pod is found.
pub fn namespace_of_pod(uid: &str) -> Result<PathBuf> {
    let processes = std::fs::read_dir("/proc")?.filter_map(Result::ok).map(|entry| entry.path());
    let of_pod = |process: &PathBuf| {
        std::fs::read_to_string(process.join("cgroup"))
            .is_ok_and(|groups| groups.contains(&format!("pod{uid}")))
    };
    let found = processes.filter(|process| process.join("ns/net").exists()).find(of_pod);
    Ok(found.with_context(|| format!("no process of pod {uid} is found"))?.join("ns/net"))
}
