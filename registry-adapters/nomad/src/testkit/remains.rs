//! What a killed agent leaves: its jobs' processes, the mounts of their directories, and the names of their namespaces.
//!
//! All of it is found by the agent's own directory, so nothing of anybody else's is touched.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Takes it away. Best effort: what can't be taken away here is nobody's to mend.
pub(super) fn take_away(directory: &Path) {
    // A task's supervisor may start the task again between a look and the next.
    for _ in 0..3 {
        processes(directory).iter().for_each(|pid| run("kill", &["-9", pid]));
    }
    let mut mounts = mounts_below(directory);
    // Inner ones first.
    mounts.sort_by_key(|path| std::cmp::Reverse(path.as_os_str().len()));
    for mount in mounts {
        run("umount", &["-l", &mount.to_string_lossy()]);
    }
    for allocation in fs::read_dir(directory.join("data/alloc")).into_iter().flatten().flatten() {
        let name = Path::new("/run/netns").join(allocation.file_name());
        if name.exists() {
            run("umount", &["-l", &name.to_string_lossy()]);
            let _best_effort = fs::remove_file(name);
        }
    }
}

/// The processes whose command line or environment names the directory.
fn processes(directory: &Path) -> BTreeSet<String> {
    let names = |file: PathBuf| {
        let text = fs::read(file).unwrap_or_default();
        let wanted = directory.as_os_str().as_bytes();
        text.windows(wanted.len()).any(|window| window == wanted)
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter(|process| names(process.path().join("cmdline")) || names(process.path().join("environ")))
        .map(|process| process.file_name().to_string_lossy().into_owned())
        .filter(|pid| pid.bytes().all(|b| b.is_ascii_digit()) && *pid != std::process::id().to_string())
        .collect()
}

fn mounts_below(directory: &Path) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    points.filter(|point| point.starts_with(directory)).collect()
}

fn run(program: &str, arguments: &[&str]) {
    let _best_effort =
        Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
}
