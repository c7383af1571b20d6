//! How many files the process may open, and how many of them are kept back.
//!
//! Connections are refused before the last file is used: then the admin endpoint still accepts, the log can be opened anew,
//! and what was accepted can reach its endpoint. The soft limit is a default for shells; it is raised to the hard one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit on open files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileLimit {
    /// `RLIMIT_NOFILE`.
    pub(crate) most: u64,
}

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
        Self { most: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) }
    }

    /// Whether one more connection may be accepted while `open` are.
    pub(crate) fn has_room(self, open: u64) -> bool {
        open < self.most.saturating_sub(self.reserve())
    }

    fn reserve(self) -> u64 {
        // A half at most, where the limit is tiny.
        (self.most / 16).max(LEAST_RESERVE).min(self.most / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_everything_else() {
        for (most, connections) in [(20_000, 18_750), (1024, 896), (256, 128), (20, 10)] {
            let limit = FileLimit { most };
            assert!(limit.has_room(connections - 1) && !limit.has_room(connections), "{most}");
        }
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let raised = FileLimit::raise();
        let now = getrlimit(Resource::Nofile);
        assert_eq!(now.current, now.maximum);
        assert_eq!(Some(raised.most), now.current);
    }
}
