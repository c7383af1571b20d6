//! HTTP/2 as bytes: which frames go by, what of them costs us and carries nothing, and which requests are none.
//!
//! [`Watch`] stands beside the HTTP/2 implementation and not in its place: it looks at frame heads, never at payloads that
//! carry something, and says when a peer has gone too far. The implementation's own refusals are read off what it sends.

mod bounds;
mod frame;
pub mod message;
mod watch;

pub use bounds::{Bounds, WINDOW};
pub use watch::{Passed, Side, Watch};

/// A GOAWAY with ENHANCE_YOUR_CALM (RFC 9113 6.8, 7) after `last_stream`.
pub fn goaway(last_stream: u32) -> [u8; 17] {
    let mut frame = [0, 0, 8, frame::GOAWAY, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, frame::ENHANCE_YOUR_CALM];
    frame[9..13].copy_from_slice(&(last_stream & frame::STREAM_MASK).to_be_bytes());
    frame
}
