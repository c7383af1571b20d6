//! Which control plane next, and after which pause. Pure.
//!
//! The pause grows with each full round of failures, not with each control plane that is down, and is drawn from its
//! whole range: thousands of proxies lose a control plane in the same moment.

use std::time::Duration;

/// The state between attempts.
#[derive(Debug)]
pub struct Reconnect {
    endpoints: usize,
    next: usize,
    failures: u32,
}

const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(30);
/// A stream that lived this long was not part of the trouble that may follow it.
const SETTLED: Duration = Duration::from_secs(10);
/// Rounds of failures that still count after one that was taken and lived shorter: at most 3.2 s.
const ROUNDS_AFTER_OPEN: u32 = 4;

impl Reconnect {
    /// For `endpoints` control planes; `seed` picks the first.
    pub fn new(endpoints: usize, seed: u64) -> Self {
        let next = usize::try_from(seed % (endpoints.max(1) as u64)).unwrap_or(0);
        Self { endpoints, next, failures: 0 }
    }

    /// The index of the control plane to try.
    pub fn endpoint(&self) -> usize {
        self.next
    }

    /// Takes note of the end of an attempt and returns how long to wait. `was_open`: the server took the stream. That
    /// responses came is not asked for: a client that holds everything gets none. `chance` is random.
    pub fn after(&mut self, was_open: bool, lived: Duration, chance: u32) -> Duration {
        self.next = (self.next + 1) % self.endpoints.max(1);
        if was_open && lived >= SETTLED {
            self.failures = 0;
        }
        let endpoints = u32::try_from(self.endpoints.max(1)).unwrap_or(1);
        if was_open {
            // It is up, if not for long: who waits for a restart that succeeds should not wait for half a minute.
            self.failures = self.failures.min(ROUNDS_AFTER_OPEN.saturating_mul(endpoints));
        }
        let round = self.failures / endpoints;
        self.failures = self.failures.saturating_add(1);
        let longest = LONGEST.min(SHORTEST * 2_u32.saturating_pow(round.min(16)));
        // Never at once: a server that refuses immediately would be asked without pause.
        longest.mul_f64(0.25 + 0.75 * f64::from(chance) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_a_round_at_a_time_up_to_half_a_minute() {
        let mut reconnect = Reconnect::new(3, 4);
        let mut order = Vec::new();
        let mut pauses = Vec::new();
        for _ in 0..40 {
            order.push(reconnect.endpoint());
            pauses.push(reconnect.after(false, Duration::ZERO, u32::MAX));
        }
        assert_eq!(order[..4], [1, 2, 0, 1]);
        assert_eq!(pauses[..3], [SHORTEST; 3]);
        assert_eq!(pauses[3], SHORTEST * 2);
        assert_eq!(pauses[39], LONGEST);
    }

    #[test]
    fn a_pause_is_drawn_from_a_range_that_does_not_touch_zero() {
        let shortest = Reconnect::new(1, 0).after(false, Duration::ZERO, 0);
        let longest = Reconnect::new(1, 0).after(false, Duration::ZERO, u32::MAX);
        assert_eq!((shortest, longest), (SHORTEST / 4, SHORTEST));
    }

    #[test]
    fn a_stream_that_lived_starts_over_and_one_that_broke_at_once_does_not() {
        let mut reconnect = Reconnect::new(1, 0);
        for _ in 0..10 {
            reconnect.after(true, Duration::from_secs(1), 0);
        }
        assert_eq!(reconnect.after(true, Duration::from_secs(1), u32::MAX), SHORTEST * 16);
        assert_eq!(reconnect.after(true, Duration::from_secs(60), u32::MAX), SHORTEST);
    }

    #[test]
    fn no_endpoints_is_no_panic() {
        let mut reconnect = Reconnect::new(0, u64::MAX);
        assert_eq!(reconnect.endpoint(), 0);
        reconnect.after(false, Duration::ZERO, 0);
    }
}
