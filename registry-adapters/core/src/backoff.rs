//! How long to wait before the next try: exponential, with jitter, pure.
//!
//! Each wait is drawn from the upper half of the step (so that it never is almost nothing), and many processes that
//! lost the same source at the same time do not come back at the same time.

use std::time::Duration;

/// Growing waits between tries.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// Waits from about `min`, doubled with each failure, up to `max`.
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max: max.max(min), failures: 0 }
    }

    /// The wait after one more failure, with jitter.
    pub fn next_delay(&mut self) -> Duration {
        self.next_delay_with(rand::random())
    }

    /// The wait after one more failure; `jitter` from 0 to 1 picks within the step. For tests and for callers
    /// with their own randomness.
    pub fn next_delay_with(&mut self, jitter: f64) -> Duration {
        let step = self.min.saturating_mul(2u32.saturating_pow(self.failures)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 1.0 };
        step.mul_f64(0.5 + jitter / 2.0)
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// A try succeeded: the next failure waits `min` again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_start_over_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let waits: Vec<u128> = (0..6).map(|_| backoff.next_delay_with(1.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        backoff.reset();
        assert_eq!(backoff.next_delay_with(1.0), Duration::from_millis(100));
    }

    proptest! {
        #[test]
        fn a_wait_is_within_half_the_minimum_and_the_maximum_whatever_happens(
            min in 1u64..10_000, max in 1u64..10_000_000, tries in 1usize..100, jitter in any::<f64>(),
        ) {
            let (min, max) = (Duration::from_millis(min), Duration::from_millis(max));
            let mut backoff = Backoff::new(min, max);
            for _ in 0..tries {
                let wait = backoff.next_delay_with(jitter);
                prop_assert!(wait >= min / 2 && wait <= max.max(min));
            }
        }
    }
}
