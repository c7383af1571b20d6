//! Keeps a flood out of the log: the first few lines of a while are written, the rest are counted. Pure.
//!
//! For what strangers can cause, such as refused handshakes; the metrics count all of them.

use std::time::{Duration, Instant};

/// The state of one kind of line.
#[derive(Debug)]
pub(super) struct Throttle {
    lines: u32,
    each: Duration,
    window: Option<Instant>,
    written: u32,
    withheld: u64,
}

impl Throttle {
    /// So many lines in each such time.
    pub(super) fn new(lines: u32, each: Duration) -> Self {
        Self { lines, each, window: None, written: 0, withheld: 0 }
    }

    /// Whether to write a line now, and if so, how many were withheld since the last one.
    pub(super) fn pass(&mut self, now: Instant) -> Option<u64> {
        let over = self.window.is_none_or(|start| now.duration_since(start) >= self.each);
        if over {
            self.window = Some(now);
            self.written = 0;
        }
        if self.written < self.lines {
            self.written += 1;
            return Some(std::mem::take(&mut self.withheld));
        }
        self.withheld += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_ten_lines_a_second_and_the_next_one_says_how_many_were_withheld() {
        let (mut throttle, start) = (Throttle::new(10, Duration::from_secs(1)), Instant::now());
        let passed = (0..100).filter(|_| throttle.pass(start).is_some()).count();
        assert_eq!(passed, 10);
        assert_eq!(throttle.pass(start + Duration::from_secs(1)), Some(90));
        assert_eq!(throttle.pass(start + Duration::from_secs(1)), Some(0));
    }
}
