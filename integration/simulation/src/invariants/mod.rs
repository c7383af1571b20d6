//! What holds whatever goes wrong. Each in a file of its own, with the sentence it is.

pub(crate) mod converged;
pub(crate) mod identity_kept;
pub(crate) mod nothing_lost;
pub(crate) mod nothing_removed_used;
pub(crate) mod nothing_resent;
pub(crate) mod nothing_unsubscribed;

use std::fmt;

/// A sentence that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The sentence.
    pub invariant: &'static str,
    /// What was found.
    pub what: String,
}

impl std::error::Error for Violation {}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" does not hold: {}", self.invariant, self.what)
    }
}

/// `Err` with the text unless `holds`.
pub(crate) fn holds(
    invariant: &'static str,
    holds: bool,
    what: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { invariant, what: what() }) }
}
