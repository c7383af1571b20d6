//! When to renew an SVID. Pure: takes the time and the chance, gives back what to do.
//!
//! At half of what was left when it was obtained, earlier or later by up to 10 %, so that proxies that started together
//! do not renew together. A failure is tried again after 1 s, doubled to at most 5 min; the old SVID serves on until
//! it really expires, and even then the attempts go on.

use std::time::{Duration, SystemTime};

use crate::svid::Svid;

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenewalState {
    /// Nothing for this long.
    Wait(Duration),
    /// Renew now.
    Due,
}

/// The renewal of one SVID. Made anew for each one that is obtained.
#[derive(Debug, Clone)]
pub struct RenewalSchedule {
    not_after: SystemTime,
    next: SystemTime,
    failures: u32,
}

impl RenewalSchedule {
    /// The schedule of an SVID that was obtained at `obtained`. `chance` is a random number of 0 to 1.
    ///
    /// Counts from when it was obtained and not from its `notBefore`, which is back-dated: a leaf of a few
    /// seconds would be due at birth.
    pub fn new(obtained: SystemTime, not_after: SystemTime, chance: f64) -> Self {
        let left = not_after.duration_since(obtained).unwrap_or_default();
        Self { not_after, next: obtained + left.mul_f64(0.5 * jitter(chance)), failures: 0 }
    }

    /// The schedule of an SVID that was obtained just now.
    pub fn obtained(svid: &Svid, now: SystemTime) -> Self {
        Self::new(now, svid.not_after(), rand::random())
    }

    /// The schedule of an SVID that was read from disk: it counts from its `notBefore`, since when it was obtained
    /// is not known.
    pub fn restored(svid: &Svid) -> Self {
        Self::new(svid.not_before(), svid.not_after(), rand::random())
    }

    /// What to do now.
    pub fn state(&self, now: SystemTime) -> RenewalState {
        match self.next.duration_since(now) {
            Ok(wait) if !wait.is_zero() => RenewalState::Wait(wait),
            _ => RenewalState::Due,
        }
    }

    /// An attempt failed. `chance` is a random number of 0 to 1.
    pub fn failed(&mut self, now: SystemTime, chance: f64) {
        let backoff = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(self.failures)).min(LONGEST_RETRY);
        self.failures = self.failures.saturating_add(1);
        let mut wait = backoff.mul_f64(jitter(chance));
        // Several more attempts fit in what is left, also of a short-lived leaf.
        if let Ok(left) = self.not_after.duration_since(now) {
            wait = wait.min((left / 4).max(FIRST_RETRY));
        }
        self.next = now + wait;
    }

    /// True when the SVID is over: peers refuse it.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        now > self.not_after
    }
}

/// 0.9 to 1.1.
fn jitter(chance: f64) -> f64 {
    0.9 + 0.2 * chance.clamp(0.0, 1.0)
}

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn start() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    #[test]
    fn a_leaf_of_a_day_renews_at_half_life_give_or_take_a_tenth() {
        for (chance, expected) in [(0.0, 38_880), (0.5, 43_200), (1.0, 47_520)] {
            let schedule = RenewalSchedule::new(start(), start() + 24 * HOUR, chance);
            let RenewalState::Wait(wait) = schedule.state(start()) else { panic!("due at birth") };
            assert_eq!(wait.as_secs_f64().round() as u64, expected);
            assert_eq!(schedule.state(start() + 14 * HOUR), RenewalState::Due);
        }
    }

    #[test]
    fn failures_back_off_from_one_second_to_five_minutes() {
        let mut schedule = RenewalSchedule::new(start(), start() + 24 * HOUR, 0.5);
        let now = start() + 12 * HOUR;
        let mut waits = Vec::new();
        for _ in 0..11 {
            schedule.failed(now, 0.5);
            let RenewalState::Wait(wait) = schedule.state(now) else { panic!("no back-off") };
            waits.push(wait.as_secs_f64().round() as u64);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    #[test]
    fn attempts_come_closer_when_little_is_left() {
        let mut schedule = RenewalSchedule::new(start(), start() + Duration::from_secs(60), 0.5);
        let now = start() + Duration::from_secs(40);
        for _ in 0..10 {
            schedule.failed(now, 1.0);
        }
        assert_eq!(schedule.state(now), RenewalState::Wait(Duration::from_secs(5)));
    }

    #[test]
    fn it_says_when_the_svid_is_over_and_still_tries() {
        let mut schedule = RenewalSchedule::new(start(), start() + HOUR, 0.5);
        assert!(!schedule.is_expired(start() + HOUR));
        let late = start() + 2 * HOUR;
        assert!(schedule.is_expired(late));
        assert_eq!(schedule.state(late), RenewalState::Due);
        for _ in 0..20 {
            schedule.failed(late, 1.0);
        }
        assert_eq!(schedule.state(late), RenewalState::Wait(Duration::from_secs(330)));
    }

    #[test]
    fn an_svid_that_was_over_when_it_was_read_is_due_at_once() {
        let schedule = RenewalSchedule::new(start(), start() - HOUR, 1.0);
        assert_eq!(schedule.state(start()), RenewalState::Due);
    }
}
