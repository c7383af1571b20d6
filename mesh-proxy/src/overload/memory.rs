//! The memory that this process holds, and how much it may: both as the kernel counts them.
//!
//! The limit is the smallest one of the control groups that the process is in, since exceeding it means being killed.
//! Where there is none the default stands in: a proxy must not take the host down with it.

use std::io;
use std::path::{Path, PathBuf};

/// Where neither the settings nor a control group say anything.
pub(crate) const DEFAULT_LIMIT: u64 = 1 << 30;
/// Control groups of version 1 write "none" as a number near this.
const NONE: u64 = 1 << 60;

/// The limit in bytes: of the settings, else of the control groups, else [`DEFAULT_LIMIT`].
pub(crate) fn limit(setting: Option<u64>) -> u64 {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    setting
        .or_else(|| of_groups(&read(Path::new("/proc/self/cgroup"))?, Path::new("/sys/fs/cgroup"), read))
        .unwrap_or(DEFAULT_LIMIT)
}

/// The smallest limit of the groups in `text` (cgroups(7), `/proc/PID/cgroup`) and those above them.
fn of_groups(text: &str, top: &Path, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let mut least: Option<u64> = None;
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        let (root, file) = match controllers {
            "" => (top.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (top.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        for folder in Path::new(group.trim_start_matches('/')).ancestors() {
            let path: PathBuf = root.join(folder).join(file);
            // "max" is no number.
            let limit = read(&path).and_then(|said| said.trim().parse::<u64>().ok());
            least = least.into_iter().chain(limit.filter(|limit| *limit < NONE)).min();
        }
    }
    least
}

/// The resident memory, in bytes.
pub(super) fn resident() -> io::Result<u64> {
    // proc_pid_statm(5): the second number is resident pages.
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    let pages = pages.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/self/statm"))?;
    Ok(pages.saturating_mul(rustix::param::page_size() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit_with(text: &str, files: &[(&str, &str)]) -> Option<u64> {
        of_groups(text, Path::new("/c"), |path| {
            files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, said)| (*said).to_owned())
        })
    }

    #[test]
    fn the_smallest_limit_on_the_way_up_counts_in_both_versions_of_control_groups() {
        let two = [
            ("/c/pod/proxy/memory.max", "max\n"),
            ("/c/pod/memory.max", "268435456\n"),
            ("/c/memory.max", "536870912\n"),
        ];
        assert_eq!(limit_with("0::/pod/proxy\n", &two), Some(256 << 20));
        let one = [
            ("/c/memory/pod/memory.limit_in_bytes", "134217728\n"),
            ("/c/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        assert_eq!(limit_with("5:cpu:/pod\n4:hugetlb,memory:/pod\n0::/\n", &one), Some(128 << 20));
    }

    #[test]
    fn without_a_limit_there_is_none() {
        assert_eq!(limit_with("0::/\n", &[("/c/memory.max", "max\n")]), None);
        assert_eq!(
            limit_with("4:memory:/x\n", &[("/c/memory/memory.limit_in_bytes", "9223372036854771712")]),
            None
        );
        assert_eq!(limit_with("damaged", &[]), None);
        assert_eq!(limit(Some(7)), 7);
    }

    #[test]
    fn what_this_process_holds_is_more_than_nothing() {
        assert!(resident().unwrap() > 1 << 20);
    }
}
