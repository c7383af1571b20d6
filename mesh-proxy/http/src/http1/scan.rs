//! Finds the end of a head, or of trailers, in bytes that come in pieces.
//!
//! Every line must end in CRLF: a bare LF, which RFC 9112 2.2 lets a recipient accept, is where readers differ. No byte is
//! looked at twice, so that a head that comes byte by byte costs no more than one that comes at once.

use std::ops::Range;

use crate::bytes::is_token;
use crate::{Malformed, Refused};

/// How far the bytes were looked through.
#[derive(Debug, Clone, Default)]
pub struct Scan {
    /// What was looked at.
    at: usize,
    /// Where the current line starts.
    line: usize,
    /// Where the message starts: after an empty line, which RFC 9112 2.2 lets come before it.
    start: usize,
    /// The first line is complete.
    begun: bool,
}

impl Scan {
    /// For trailers, which may be an empty line and nothing else.
    pub(super) fn of_trailers() -> Self {
        Self { begun: true, ..Self::default() }
    }

    /// Whether the first line is complete.
    pub(super) fn begun(&self) -> bool {
        self.begun
    }

    /// Where the message's bytes are, its empty line included. `None`: it is not whole. `bytes` are those of the last
    /// call and what came since.
    ///
    /// # Errors
    /// When a line does not end in CRLF, the first byte can start no head, or the end is not within `limit`.
    pub(super) fn find(&mut self, bytes: &[u8], limit: usize) -> Result<Option<Range<usize>>, Refused> {
        let within = bytes.get(..bytes.len().min(limit)).unwrap_or_default();
        loop {
            self.check_first(within)?;
            let unseen = within.get(self.at..).unwrap_or_default();
            let Some(found) = memchr::memchr(b'\n', unseen) else { break };
            let end = self.at.saturating_add(found);
            let line = within.get(self.line..end).unwrap_or_default();
            if line.last() != Some(&b'\r') {
                return Err(Refused::new(Malformed::LineEnd, "a line ends in LF without CR"));
            }
            self.at = end.saturating_add(1);
            self.line = self.at;
            match (line.len() == 1, self.begun) {
                (true, true) => return Ok(Some(self.start..self.at)),
                (true, false) if self.start == 0 => self.start = self.at,
                (true, false) => {
                    return Err(Refused::new(Malformed::StartLine, "empty lines stand before the message"));
                }
                (false, _) => self.begun = true,
            }
        }
        self.at = within.len();
        if bytes.len() >= limit {
            return Err(Refused::new(Malformed::HeadSize, "the head is longer than limits.head_bytes"));
        }
        Ok(None)
    }

    /// What begins with another byte than a token's is not HTTP; it is not waited for.
    fn check_first(&self, bytes: &[u8]) -> Result<(), Refused> {
        match bytes.get(self.line) {
            Some(byte) if !self.begun && !is_token(*byte) && !matches!(byte, b'\r' | b'\n') => {
                Err(Refused::new(Malformed::StartLine, "this does not begin like HTTP"))
            }
            _ => Ok(()),
        }
    }
}
