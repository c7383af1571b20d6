//! A certificate as far as time is concerned: its life is the CA's real decision, its key is not made.

use std::time::{Duration, SystemTime};

/// A leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    /// When it was installed.
    pub(crate) obtained: Duration,
    /// Issued or installed by a clock that was wrong.
    pub(crate) wrong_clock: bool,
}
