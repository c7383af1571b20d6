//! How many files the process may open, and how many of them are kept back.
//!
//! Connections are refused before the last file is used: then the admin endpoint still accepts, the log can be opened anew,
//! and what was accepted can reach its endpoint. The soft limit is a default for shells; it is raised to the hard one.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// `RLIMIT_NOFILE`.
#[derive(Debug)]
pub(crate) struct FileLimit(AtomicU64);

/// Least number of files that connections leave: the admin endpoint's, logs, state, the control plane.
const LEAST_RESERVE: u64 = 128;

impl FileLimit {
    /// Raises the soft limit as far as it goes.
    pub(crate) fn raise() -> Self {
        let before = getrlimit(Resource::Nofile);
        let raised = Rlimit { current: before.maximum, maximum: before.maximum };
        // Without a hard limit the kernel's own (fs.nr_open) refuses this, and the soft one stays.
        if setrlimit(Resource::Nofile, raised).is_ok() && before.current != before.maximum {
            tracing::info!(from = ?before.current, to = ?before.maximum, "the limit on open files is raised");
        }
        let limit = Self::of(u64::MAX);
        limit.look();
        limit
    }

    /// So many.
    pub(crate) fn of(most: u64) -> Self {
        Self(AtomicU64::new(most))
    }

    /// Takes note of what it is now: prlimit(1) changes it from outside.
    pub(super) fn look(&self) {
        self.0.store(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether one more connection may be accepted while `open` are.
    pub(crate) fn has_room(&self, open: u64) -> bool {
        let most = self.0.load(Ordering::Relaxed);
        open < most.saturating_sub(reserve(most))
    }
}

fn reserve(most: u64) -> u64 {
    // A half at most, where the limit is tiny.
    (most / 16).max(LEAST_RESERVE).min(most / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_everything_else() {
        for (most, connections) in [(20_000, 18_750), (1024, 896), (256, 128), (20, 10)] {
            let limit = FileLimit::of(most);
            assert!(limit.has_room(connections - 1) && !limit.has_room(connections), "{most}");
        }
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let raised = FileLimit::raise();
        let now = getrlimit(Resource::Nofile);
        assert_eq!(now.current, now.maximum);
        assert_eq!(Some(raised.0.into_inner()), now.current);
    }
}
