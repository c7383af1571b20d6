//! HTTP/1 on bytes: heads and bodies, read strictly and written plainly (RFC 9112).
//!
//! [`Scan`] finds the end of a head over any split of its bytes, [`request::take`] and [`response::take`] read it,
//! [`Decoder`] reads the body behind it, and [`encode`] writes all of them. Where a message ends is decided once, in
//! [`Framing`]; what two readers could end at two places is refused.

mod chunked;
mod decode;
pub mod encode;
mod fields;
pub mod request;
pub mod response;
mod scan;
mod target;
#[cfg(test)]
mod tests;

pub use decode::{Decoded, Decoder, Incomplete};
pub use request::RequestHead;
pub use response::ResponseHead;
pub use scan::Scan;

/// What bounds a message's parts that are held in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head, and of trailers.
    pub head: usize,
    /// Bytes of a request's target.
    pub target: usize,
    /// Fields of a head, and of trailers.
    pub fields: usize,
}

impl Limits {
    /// With this many bytes for a head.
    pub const fn new(head: usize) -> Self {
        Self { head, target: TARGET, fields: FIELDS }
    }
}

/// The longest request target: what the largest common servers and browsers manage.
pub const TARGET: usize = 32 * 1024;
/// The most fields of a head: a browser sends twenty, a chain of proxies adds ten.
pub const FIELDS: usize = 128;
/// The longest method; the registry's longest has 16.
pub const METHOD: usize = 64;

/// Where a body ends (RFC 9112 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// With the last chunk and its trailers.
    Chunked,
    /// With the connection. Responses only.
    UntilClose,
}
