//! Nonces for attestations: random, single-use, good for a minute. Pure: takes the time.
//!
//! Bounded: when there are too many, the oldest goes. To push out an honest caller's, an attacker would need thousands
//! of new ones within that caller's round trip, and his own are rate limited.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The nonces that are out.
#[derive(Debug, Default)]
pub(crate) struct Nonces(VecDeque<([u8; 32], Instant)>);

impl Nonces {
    /// A new nonce.
    pub(crate) fn issue(&mut self, now: Instant) -> [u8; 32] {
        self.forget_old(now);
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        let nonce = rand::random();
        self.0.push_back((nonce, now + LIFE));
        nonce
    }

    /// Whether this nonce is out; it is not any more.
    pub(crate) fn take(&mut self, nonce: &[u8], now: Instant) -> bool {
        self.forget_old(now);
        match self.0.iter().position(|(known, _)| known == nonce) {
            Some(index) => self.0.remove(index).is_some(),
            None => false,
        }
    }

    fn forget_old(&mut self, now: Instant) {
        while self.0.front().is_some_and(|(_, end)| *end <= now) {
            self.0.pop_front();
        }
    }
}

const LIFE: Duration = Duration::from_secs(60);
const MOST: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_good_once() {
        let (mut nonces, now) = (Nonces::default(), Instant::now());
        let nonce = nonces.issue(now);
        assert!(nonces.take(&nonce, now + LIFE - Duration::from_millis(1)));
        assert!(!nonces.take(&nonce, now));
        assert!(!nonces.take(b"", now));
    }

    #[test]
    fn a_nonce_is_good_for_a_minute() {
        let (mut nonces, now) = (Nonces::default(), Instant::now());
        let nonce = nonces.issue(now);
        assert!(!nonces.take(&nonce, now + LIFE));
    }

    #[test]
    fn of_too_many_the_oldest_goes() {
        let (mut nonces, now) = (Nonces::default(), Instant::now());
        let first = nonces.issue(now);
        let second = nonces.issue(now);
        for _ in 0..MOST - 1 {
            nonces.issue(now);
        }
        assert_eq!(nonces.0.len(), MOST);
        assert!(!nonces.take(&first, now));
        assert!(nonces.take(&second, now));
    }
}
