//! Watches one connection's frames and says when its peer costs more than it carries.
//!
//! The counts of a window are compared with [`Cost::bound`]. The clock is read only when a bound is reached or many frames
//! went by: a count that took longer than its window to get there is no flood, and starts anew. So a burst after a pause
//! may pass twice the floor, and ordinary traffic costs some adds. What is over is cut at the end of a frame, so that the
//! HTTP/2 implementation sees a connection that ends in good order and lets the last word (GOAWAY) through.

use std::time::Instant;

use crate::Malformed;
use crate::http2::bounds::{Bounds, Cost, FRAMES_PER_LOOK, SHORT, WINDOW};
use crate::http2::frame::{self, Frame, Splitter};

/// Who opened the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The peer, who sends requests.
    Accepted,
    /// We did, and the peer answers.
    Dialled,
}

/// How much of what was read may be handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    /// All of it.
    All,
    /// So many bytes, and nothing after them ever.
    Until(usize),
}

/// What is known of one connection.
#[derive(Debug)]
pub struct Watch {
    received: Splitter,
    sent: Splitter,
    tally: Tally,
    over: bool,
}

#[derive(Debug)]
struct Tally {
    accepted: bool,
    bounds: Bounds,
    since: Instant,
    /// Frames since the clock was read.
    unseen: u32,
    counts: [u32; Cost::KINDS],
    opened: u32,
    data: u32,
    /// CONTINUATION frames of the head that is being received.
    block: u32,
    last_stream: u32,
    verdict: Option<Malformed>,
    /// The stream that we ended last with a head alone.
    ended: u32,
    /// The stream whose head was counted as too large by its answer.
    counted: u32,
    said_goaway: bool,
}

impl Watch {
    /// For a connection that begins now.
    pub fn new(side: Side, bounds: Bounds, now: Instant) -> Self {
        let accepted = side == Side::Accepted;
        let (theirs, ours) = if accepted { (frame::PREFACE, 0) } else { (0, frame::PREFACE) };
        let tally = Tally {
            accepted,
            bounds,
            since: now,
            unseen: 0,
            counts: [0; Cost::KINDS],
            opened: 0,
            data: 0,
            block: 0,
            last_stream: 0,
            verdict: None,
            ended: 0,
            counted: 0,
            said_goaway: false,
        };
        Self { received: Splitter::after(theirs), sent: Splitter::after(ours), tally, over: false }
    }

    /// Why the connection is to end.
    pub fn verdict(&self) -> Option<Malformed> {
        self.tally.verdict
    }

    /// Whether nothing more of what the peer sends is handed on.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// The highest stream that the peer has opened, for a GOAWAY.
    pub fn last_stream(&self) -> u32 {
        self.tally.last_stream
    }

    /// Whether the peer has been told already why the connection ends.
    pub fn has_said_goaway(&self) -> bool {
        self.tally.said_goaway
    }

    /// Looks at bytes from the peer.
    pub fn received(&mut self, bytes: &[u8], now: impl Fn() -> Instant) -> Passed {
        let mut at = 0;
        while !self.over {
            let rest = bytes.get(at..).unwrap_or_default();
            if self.tally.verdict.is_some() {
                at += self.received.skip(rest);
                self.over = self.received.at_border();
                if !self.over {
                    return Passed::All;
                }
                continue;
            }
            let (taken, frame) = self.received.next(rest);
            at += taken;
            match frame {
                Some(frame) => self.tally.heard(&frame, &now),
                None => return Passed::All,
            }
        }
        Passed::Until(at)
    }

    /// Looks at bytes for the peer, and tells what is refused with them.
    pub fn sent(&mut self, bytes: &[u8], mut refused: impl FnMut(Malformed)) {
        let mut at = 0;
        loop {
            let (taken, frame) = self.sent.next(bytes.get(at..).unwrap_or_default());
            at += taken;
            match frame {
                Some(frame) => self.tally.said(&frame).into_iter().for_each(&mut refused),
                None => return,
            }
        }
    }
}

impl Tally {
    fn heard(&mut self, frame: &Frame<'_>, now: &impl Fn() -> Instant) {
        self.unseen = self.unseen.saturating_add(1);
        if self.unseen >= FRAMES_PER_LOOK {
            self.unseen = 0;
            self.is_new_window(now);
        }
        let cost = match frame.kind {
            frame::DATA if frame.is_empty_data() => Cost::EmptyData,
            frame::DATA => return self.carried(frame),
            frame::HEADERS => {
                self.block = 0;
                if self.accepted {
                    self.opened = self.opened.saturating_add(1);
                    self.last_stream = self.last_stream.max(frame.stream);
                    return;
                }
                Cost::Answer
            }
            frame::CONTINUATION => {
                self.block += 1;
                if self.block > self.bounds.block {
                    self.verdict = Some(Malformed::Http2Continuation);
                }
                if frame.length >= SHORT {
                    return;
                }
                Cost::ShortContinuation
            }
            frame::PRIORITY => Cost::Priority,
            frame::RST_STREAM => Cost::Reset,
            frame::SETTINGS => Cost::Settings,
            frame::PING => Cost::Ping,
            frame::GOAWAY => Cost::GoAway,
            frame::WINDOW_UPDATE => Cost::WindowUpdate,
            // Never allowed by us: the implementation ends the connection at the first.
            frame::PUSH_PROMISE => return,
            _ => Cost::Unknown,
        };
        self.count(cost, now);
    }

    fn carried(&mut self, frame: &Frame<'_>) {
        self.data = self.data.saturating_add(u32::from(frame.length > 0));
    }

    fn count(&mut self, cost: Cost, now: &impl Fn() -> Instant) {
        if !self.add(cost) {
            return;
        }
        // What took longer than its window to become too many is none of it, and counts anew.
        if self.is_new_window(now) && !self.add(cost) {
            return;
        }
        self.verdict = self.verdict.or(Some(cost.bound(self.accepted).kind));
    }

    /// One more of it; whether that is too many.
    fn add(&mut self, cost: Cost) -> bool {
        let Some(count) = self.counts.get_mut(cost as usize) else { return false };
        *count += 1;
        let bound = cost.bound(self.accepted);
        if *count <= bound.floor {
            return false;
        }
        let streams = u64::from(self.opened) * u64::from(bound.per_hundred_streams) / 100;
        let data = u64::from(self.data) * u64::from(bound.per_data);
        u64::from(*count) > u64::from(bound.floor) + streams + data
    }

    /// Starts counting anew if the window is over.
    fn is_new_window(&mut self, now: &impl Fn() -> Instant) -> bool {
        let now = now();
        let over = now.saturating_duration_since(self.since) >= WINDOW;
        if over {
            self.since = now;
            self.counts = [0; Cost::KINDS];
            (self.opened, self.data) = (0, 0);
        }
        over
    }

    /// What the implementation refuses by itself is read off what it sends.
    fn said(&mut self, frame: &Frame<'_>) -> Option<Malformed> {
        // The clock is read with the next frame from the peer.
        self.unseen = self.unseen.saturating_add(1);
        match frame.kind {
            frame::DATA => {
                self.carried(frame);
                None
            }
            frame::HEADERS => {
                self.opened = self.opened.saturating_add(u32::from(!self.accepted));
                if frame.flags & frame::END_STREAM == 0 {
                    return None;
                }
                self.ended = frame.stream;
                // Its answer to a head that is too large; the next one on the connection is one byte, of a table.
                let first = self.accepted && is_bare_431(frame);
                self.counted = if first { frame.stream } else { 0 };
                first.then_some(Malformed::HeadSize)
            }
            frame::RST_STREAM => match frame.code() {
                // After an answer of its own, which is 431: it gives no other.
                frame::PROTOCOL_ERROR if self.accepted && frame.stream == self.ended => {
                    (frame.stream != self.counted).then_some(Malformed::HeadSize)
                }
                frame::PROTOCOL_ERROR => Some(Malformed::Http2Message),
                frame::REFUSED_STREAM => Some(Malformed::Http2Streams),
                _ => None,
            },
            frame::GOAWAY => self.goaway(frame),
            _ => None,
        }
    }

    fn goaway(&mut self, frame: &Frame<'_>) -> Option<Malformed> {
        let code = frame.code();
        // Our own last word comes after a verdict, which is counted already.
        if code == frame::NO_ERROR || std::mem::replace(&mut self.said_goaway, true) || self.verdict.is_some()
        {
            return None;
        }
        let words = frame.start.get(8..).unwrap_or_default();
        Some(match words {
            _ if code != frame::ENHANCE_YOUR_CALM => Malformed::Http2Framing,
            b"header_lis" => Malformed::HeadSize,
            b"too_many_c" => Malformed::Http2Continuation,
            b"too_many_d" => Malformed::Http2EmptyData,
            b"too_many_r" => Malformed::Http2Reset,
            // Streams that were reset for what was wrong with them (`too_many_internal_resets`), and what is new.
            _ => Malformed::Http2Message,
        })
    }
}

/// A head of `:status: 431` and nothing else, as literal digits (RFC 7541 6.2.1), compressed or not.
fn is_bare_431(frame: &Frame<'_>) -> bool {
    frame.length == 5 && matches!(frame.start, [0x48, 0x83, 0x69, 0x90, _] | [0x48, 3, b'4', b'3', b'1'])
}

#[cfg(test)]
mod tests;
