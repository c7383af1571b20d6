//! A refusal: its kind, and a sentence for the log.
//!
//! The sentence never quotes the message: what a stranger writes does not get into logs by this way.

use crate::Malformed;

/// Why a message is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refused {
    /// What is counted.
    pub kind: Malformed,
    /// What is wrong, in words.
    pub detail: &'static str,
}

impl Refused {
    /// Of this kind.
    pub const fn new(kind: Malformed, detail: &'static str) -> Self {
        Self { kind, detail }
    }
}
