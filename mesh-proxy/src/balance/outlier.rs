//! Passive ejection: an endpoint that fails again and again is left alone for a while.
//!
//! Failures are those of the endpoint as a whole: no connection, a broken one, a gateway's 502, 503 or 504. How many
//! may be out at once is decided by the cluster, which sees all of them. Pure: time is a parameter.

use std::time::{Duration, Instant};

/// When to eject, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OutlierPolicy {
    /// Failures in a row; 0 switches ejection off.
    pub(crate) consecutive_failures: u32,
    /// The share of a service's endpoints that may be out at once.
    pub(crate) max_ejected_percent: u32,
    /// For the first time; the n-th in a row takes n times as long.
    pub(crate) base_ejection: Duration,
}

/// No ejection is longer.
const LONGEST: Duration = Duration::from_secs(300);

/// What is known of one endpoint.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outlier {
    failures: u32,
    ejections: u32,
    until: Option<Instant>,
}

impl Outlier {
    /// Whether it is out at the moment.
    pub(crate) fn is_ejected(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// It answered. A success after an ejection takes one step back from the longer ones.
    pub(crate) fn succeeded(&mut self, now: Instant) {
        self.failures = 0;
        if self.until.is_some_and(|until| now >= until) {
            self.until = None;
            self.ejections = self.ejections.saturating_sub(1);
        }
    }

    /// It failed. True when it is due to be ejected; the caller then asks [`Outlier::eject`] if the cap allows.
    pub(crate) fn failed(&mut self, policy: &OutlierPolicy, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        policy.consecutive_failures > 0
            && self.failures >= policy.consecutive_failures
            && !self.is_ejected(now)
    }

    /// Takes it out.
    pub(crate) fn eject(&mut self, policy: &OutlierPolicy, now: Instant) {
        self.ejections = self.ejections.saturating_add(1);
        self.failures = 0;
        let time = policy.base_ejection.saturating_mul(self.ejections).min(LONGEST);
        self.until = now.checked_add(time);
    }
}

impl OutlierPolicy {
    /// How many of `total` endpoints may be out: the share rounded down, but one of two or more in any case, for
    /// else a service of three could never be helped.
    pub(crate) fn most_ejected(&self, total: usize) -> usize {
        let share = total.saturating_mul(self.max_ejected_percent as usize) / 100;
        let least = usize::from(total >= 2 && self.max_ejected_percent > 0);
        share.max(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: OutlierPolicy = OutlierPolicy {
        consecutive_failures: 3,
        max_ejected_percent: 50,
        base_ejection: Duration::from_secs(10),
    };

    #[test]
    fn failures_in_a_row_eject_and_a_success_between_starts_over() {
        let now = Instant::now();
        let mut outlier = Outlier::default();
        assert!(!outlier.failed(&POLICY, now) && !outlier.failed(&POLICY, now));
        outlier.succeeded(now);
        assert!(!outlier.failed(&POLICY, now) && !outlier.failed(&POLICY, now));
        assert!(outlier.failed(&POLICY, now));
    }

    #[test]
    fn each_ejection_in_a_row_lasts_longer_up_to_a_limit() {
        let mut now = Instant::now();
        let mut outlier = Outlier::default();
        for n in 1..=40u32 {
            outlier.eject(&POLICY, now);
            let lasts = Duration::from_secs(10 * u64::from(n)).min(LONGEST);
            assert!(outlier.is_ejected(now + lasts - Duration::from_millis(1)));
            now += lasts;
            assert!(!outlier.is_ejected(now));
        }
        outlier.succeeded(now);
        outlier.eject(&POLICY, now);
        assert!(outlier.is_ejected(now + Duration::from_secs(299)));
    }

    #[test]
    fn the_cap_leaves_endpoints_but_lets_one_of_two_go() {
        assert_eq!(POLICY.most_ejected(1), 0);
        assert_eq!(POLICY.most_ejected(2), 1);
        assert_eq!(POLICY.most_ejected(3), 1);
        assert_eq!(POLICY.most_ejected(10), 5);
        let tenth = OutlierPolicy { max_ejected_percent: 10, ..POLICY };
        assert_eq!(tenth.most_ejected(3), 1);
        let none = OutlierPolicy { max_ejected_percent: 0, ..POLICY };
        assert_eq!(none.most_ejected(10), 0);
    }

    #[test]
    fn zero_consecutive_failures_switch_it_off() {
        let off = OutlierPolicy { consecutive_failures: 0, ..POLICY };
        let mut outlier = Outlier::default();
        for _ in 0..100 {
            assert!(!outlier.failed(&off, Instant::now()));
        }
    }
}
