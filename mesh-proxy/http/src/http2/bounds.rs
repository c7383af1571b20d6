//! How much of what carries nothing a peer may send: the numbers, in one place.
//!
//! Each kind of frame has a floor for a window of time, and what useful traffic adds to it: a stream that was opened, a
//! DATA frame with bytes in either direction. The floors are far above what any known client or server sends; a flood is
//! a hundred times more. docs/operations.md has the same table for the operator.

use std::time::Duration;

use crate::Malformed;

/// Counts start anew after it.
pub const WINDOW: Duration = Duration::from_secs(1);
/// The clock is read at least once in so many frames, so that useful traffic of the past buys no flood.
pub(super) const FRAMES_PER_LOOK: u32 = 1024;
/// CONTINUATION frames shorter than this are no way to carry a long head.
pub(super) const SHORT: u32 = 1024;

/// What a connection's bounds depend on.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// CONTINUATION frames of one head.
    pub(super) block: u32,
}

impl Bounds {
    /// For heads of at most so many bytes: as many full frames as they need, and one.
    pub fn new(head_bytes: u32) -> Self {
        Self { block: (head_bytes / 16_384).max(1) + 1 }
    }
}

/// What is counted for its cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cost {
    Reset,
    Ping,
    Settings,
    EmptyData,
    ShortContinuation,
    Priority,
    WindowUpdate,
    Unknown,
    GoAway,
    Answer,
}

/// What may be sent of it in a window.
pub(super) struct Bound {
    pub(super) kind: Malformed,
    pub(super) floor: u32,
    /// More for each hundred streams opened …
    pub(super) per_hundred_streams: u32,
    /// … and for each DATA frame with bytes, in either direction.
    pub(super) per_data: u32,
}

const fn bound(kind: Malformed, floor: u32, per_hundred_streams: u32, per_data: u32) -> Bound {
    Bound { kind, floor, per_hundred_streams, per_data }
}

impl Cost {
    pub(super) const KINDS: usize = 10;

    /// For a peer that opens streams, or one that answers them.
    pub(super) fn bound(self, accepted: bool) -> Bound {
        match self {
            // Half of all requests may be given up; an endpoint may reset every one.
            Self::Reset => bound(Malformed::Http2Reset, 2_000, if accepted { 50 } else { 100 }, 0),
            // Some implementations measure the round trip with each piece of data.
            Self::Ping => bound(Malformed::Http2Ping, 200, 0, 1),
            Self::Settings => bound(Malformed::Http2Settings, 50, 0, 0),
            Self::EmptyData => bound(Malformed::Http2EmptyData, 80, 0, 0),
            // The last fragment of a head may be short.
            Self::ShortContinuation => bound(Malformed::Http2Continuation, 200, 100, 0),
            Self::Priority => bound(Malformed::Http2Priority, 200, 200, 0),
            // Two for each piece of data: one for the stream, one for the connection.
            Self::WindowUpdate => bound(Malformed::Http2WindowUpdate, 2_000, 400, 2),
            Self::Unknown => bound(Malformed::Http2Unknown, 200, 200, 0),
            Self::GoAway => bound(Malformed::Http2GoAway, 20, 0, 0),
            // Head, trailers and two informational heads of each stream.
            Self::Answer => bound(Malformed::Http2Headers, 1_000, 400, 0),
        }
    }
}
