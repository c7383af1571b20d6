//! Rate limits: a token bucket per key. Pure: takes the time. Bounded: keys that are full again are forgotten, and of
//! too many the least used go.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Instant;

use serde::Deserialize;

/// How often something may happen.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// On average, for ever.
    pub per_second: f64,
    /// At once, after a rest.
    pub burst: u32,
}

/// The CA's limits.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// Requests from one address: many proxies may share it behind NAT, or after a restart of a whole node.
    pub per_address: RateLimit,
    /// Certificates for one identity: its instances restart together, but not every second.
    pub per_identity: RateLimit,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            per_address: RateLimit { per_second: 20.0, burst: 400 },
            per_identity: RateLimit { per_second: 10.0, burst: 200 },
        }
    }
}

/// How often one thing may happen: a bucket of its own.
#[derive(Debug)]
pub struct Rate {
    limit: RateLimit,
    bucket: Bucket,
}

impl Rate {
    /// After a rest.
    pub fn new(limit: RateLimit, now: Instant) -> Self {
        Self { limit, bucket: Bucket::full(limit, now) }
    }

    /// Whether something that costs so much may happen now; if so, it counts.
    pub fn take(&mut self, cost: f64, now: Instant) -> bool {
        self.bucket.take(self.limit, cost, now)
    }
}

/// One bucket a key.
#[derive(Debug)]
pub struct Buckets<K> {
    limit: RateLimit,
    buckets: HashMap<K, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    left: f64,
    updated: Instant,
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    /// All rested.
    pub fn new(limit: RateLimit) -> Self {
        Self { limit, buckets: HashMap::new() }
    }

    /// Whether it may happen now; if so, it counts.
    pub fn allow(&mut self, key: &K, now: Instant) -> bool {
        if self.buckets.len() >= MOST_KEYS && !self.buckets.contains_key(key) {
            self.make_room(now);
        }
        let limit = self.limit;
        self.buckets.entry(key.clone()).or_insert_with(|| Bucket::full(limit, now)).take(limit, 1.0, now)
    }

    /// Whether it could happen now; does not count.
    pub fn could(&self, key: &K, now: Instant) -> bool {
        self.buckets.get(key).is_none_or(|bucket| bucket.refilled(self.limit, now) >= 1.0)
    }

    fn make_room(&mut self, now: Instant) {
        let limit = self.limit;
        self.buckets.retain(|_, bucket| bucket.refilled(limit, now) < f64::from(limit.burst));
        if self.buckets.len() < MOST_KEYS {
            return;
        }
        // Whoever used least loses least by being forgotten.
        let mut left: Vec<_> = self.buckets.values().map(|bucket| bucket.refilled(limit, now)).collect();
        left.sort_by(f64::total_cmp);
        let median = left.get(left.len() / 2).copied().unwrap_or_default();
        self.buckets.retain(|_, bucket| bucket.refilled(limit, now) < median);
    }
}

impl Bucket {
    fn full(limit: RateLimit, now: Instant) -> Self {
        Self { left: f64::from(limit.burst), updated: now }
    }

    fn take(&mut self, limit: RateLimit, cost: f64, now: Instant) -> bool {
        self.left = self.refilled(limit, now);
        self.updated = now;
        let allowed = self.left >= cost;
        if allowed {
            self.left -= cost;
        }
        allowed
    }

    fn refilled(&self, limit: RateLimit, now: Instant) -> f64 {
        let rest = now.saturating_duration_since(self.updated).as_secs_f64();
        (self.left + rest * limit.per_second).min(f64::from(limit.burst))
    }
}

const MOST_KEYS: usize = 16_384;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMIT: RateLimit = RateLimit { per_second: 2.0, burst: 3 };

    #[test]
    fn a_burst_is_allowed_then_the_rate() {
        let (mut buckets, now) = (Buckets::new(LIMIT), Instant::now());
        let allowed: Vec<_> = (0..4).map(|_| buckets.allow(&"a", now)).collect();
        assert_eq!(allowed, [true, true, true, false]);
        assert!(buckets.allow(&"a", now + Duration::from_millis(500)));
        assert!(!buckets.allow(&"a", now + Duration::from_millis(600)));
        assert!(buckets.allow(&"b", now), "keys share a bucket");
    }

    #[test]
    fn a_rest_refills_no_more_than_the_burst() {
        let (mut buckets, now) = (Buckets::new(LIMIT), Instant::now());
        assert!(buckets.allow(&1, now));
        let later = now + Duration::from_secs(3600);
        assert_eq!((0..10).filter(|_| buckets.allow(&1, later)).count(), 3);
    }

    #[test]
    fn keys_are_bounded_and_the_exhausted_one_stays_exhausted() {
        let (mut buckets, now) = (Buckets::new(LIMIT), Instant::now());
        while buckets.allow(&0, now) {}
        for key in 1..=3 * MOST_KEYS {
            buckets.allow(&key, now);
        }
        assert!(buckets.buckets.len() <= MOST_KEYS);
        assert!(!buckets.allow(&0, now));
    }
}
