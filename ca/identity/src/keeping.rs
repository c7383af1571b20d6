//! How a process keeps an SVID: when it waits, renews, or has to prove anew what it is. Sans-IO.
//!
//! A valid SVID is renewed from half its life on, and a failed renewal changes nothing until it really expires. Without a
//! valid one the attempts are a matter of seconds: nothing works meanwhile. One that is not valid *yet* (a clock was ahead
//! when it was issued) is none either: its renewal would only be due long after it could be of use. How an SVID is obtained, and where it is kept,
//! is the proxy's part.

use std::time::{Duration, Instant, SystemTime};

use crate::renewal::{RenewalSchedule, RenewalState};

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing for this long; then look again.
    Wait(Duration),
    /// Renew with the current SVID.
    Renew,
    /// There is no valid SVID: prove anew what this process is.
    Attest,
}

/// The SVID that a process keeps.
#[derive(Debug, Clone, Default)]
pub struct Keeping {
    current: Option<Current>,
    failures: u32,
    /// Without a valid SVID: when to try again.
    retry: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Current {
    not_before: SystemTime,
    schedule: RenewalSchedule,
}

impl Current {
    fn is_valid(&self, wall: SystemTime) -> bool {
        wall >= self.not_before && !self.schedule.is_expired(wall)
    }
}

impl Keeping {
    /// An SVID was obtained, or read from disk, that is valid from `not_before` on and has this schedule.
    pub fn obtained(&mut self, not_before: SystemTime, schedule: RenewalSchedule) {
        *self = Self { current: Some(Current { not_before, schedule }), ..Self::default() };
    }

    /// What to do at `now`, which the wall clock calls `wall`.
    pub fn step(&self, wall: SystemTime, now: Instant) -> Step {
        let wait = match self.current.as_ref().filter(|current| current.is_valid(wall)) {
            Some(current) => match current.schedule.state(wall) {
                RenewalState::Wait(wait) => wait,
                RenewalState::Due => return Step::Renew,
            },
            None => match self.retry.filter(|retry| *retry > now) {
                Some(retry) => retry - now,
                None => return Step::Attest,
            },
        };
        Step::Wait(wait.min(LONGEST_SLEEP))
    }

    /// An attempt failed. `chance` is a random number of 0 to 1. Returns whether there is a valid SVID still.
    pub fn failed(&mut self, wall: SystemTime, now: Instant, chance: f64) -> bool {
        self.failures = self.failures.saturating_add(1);
        match self.current.as_mut().filter(|current| current.is_valid(wall)) {
            Some(current) => {
                current.schedule.failed(wall, chance);
                true
            }
            None => {
                self.retry = Some(now + backoff(self.failures, chance));
                false
            }
        }
    }
}

/// Whether what is valid from `not_before` to `not_after` is valid at `wall`.
///
/// # Errors
/// Why it is not.
pub fn validity(not_before: SystemTime, not_after: SystemTime, wall: SystemTime) -> Result<(), &'static str> {
    if wall > not_after {
        Err("expired")
    } else if wall < not_before {
        Err("not valid yet; is the clock right?")
    } else {
        Ok(())
    }
}

fn backoff(failures: u32, chance: f64) -> Duration {
    let doubled = FIRST_BACKOFF.saturating_mul(2_u32.saturating_pow(failures.min(16)));
    doubled.min(LONGEST_BACKOFF).mul_f64(0.8 + 0.4 * chance.clamp(0.0, 1.0))
}

/// A wait that is longer than this is cut, so that a clock that is set forward is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
/// Between attempts to get a first certificate: a control plane that comes up is noticed soon.
const LONGEST_BACKOFF: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn start() -> (SystemTime, Instant) {
        (SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000), Instant::now())
    }

    #[test]
    fn attempts_for_a_first_certificate_are_spaced_but_never_far_apart() {
        for failures in 1..200 {
            let (soonest, latest) = (backoff(failures, 0.0), backoff(failures, 1.0));
            assert!(soonest >= Duration::from_millis(200), "{failures}: {soonest:?}");
            assert!(latest <= LONGEST_BACKOFF.mul_f64(1.2), "{failures}: {latest:?}");
        }
        assert!(backoff(1, 1.0) < Duration::from_secs(1), "the first one comes soon");
    }

    #[test]
    fn a_valid_one_is_renewed_and_an_expired_one_is_attested_anew_after_a_pause() {
        let (wall, now) = start();
        let mut keeping = Keeping::default();
        keeping.obtained(wall, RenewalSchedule::new(wall, wall + HOUR, 0.5));
        assert_eq!(keeping.step(wall, now), Step::Wait(LONGEST_SLEEP));
        assert_eq!(keeping.step(wall + HOUR / 2, now), Step::Renew);
        assert!(keeping.failed(wall + HOUR / 2, now, 0.5));
        assert_eq!(keeping.step(wall + HOUR / 2, now), Step::Wait(Duration::from_secs(1)));
        assert_eq!(keeping.step(wall + 2 * HOUR, now), Step::Attest);
        assert!(!keeping.failed(wall + 2 * HOUR, now, 0.5));
        assert_eq!(keeping.step(wall + 2 * HOUR, now), Step::Wait(backoff(2, 0.5)));
        assert_eq!(keeping.step(wall + 2 * HOUR, now + backoff(2, 0.5)), Step::Attest);
    }

    #[test]
    fn one_that_is_not_valid_yet_is_not_waited_for() {
        let (wall, now) = start();
        let mut keeping = Keeping::default();
        keeping.obtained(wall + HOUR, RenewalSchedule::new(wall + HOUR, wall + 2 * HOUR, 0.5));
        assert_eq!(keeping.step(wall, now), Step::Attest);
        assert_eq!(keeping.step(wall + HOUR, now), Step::Wait(LONGEST_SLEEP));
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_hold_up_the_next_attestation() {
        let (wall, now) = start();
        let mut keeping = Keeping::default();
        keeping.failed(wall, now, 1.0);
        assert_eq!(keeping.step(wall - 5 * HOUR, now + LONGEST_BACKOFF), Step::Attest);
    }
}
