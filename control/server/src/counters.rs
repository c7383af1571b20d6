//! What is counted while it happens; `admin/metrics.rs` gives it names.
//!
//! Plain atomics: at most a few thousand steps a second touch them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Counts of this process.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Responses sent to proxies.
    pub(crate) responses: Counter,
    /// Resources in them.
    pub(crate) resources: Counter,
    /// Removals in them.
    pub(crate) removals: Counter,
    /// Acknowledgements.
    pub(crate) acks: Counter,
    /// Refusals.
    pub(crate) nacks: Counter,
    /// Streams that were opened.
    pub(crate) streams: Counter,
    /// Streams that were ended for an error of the client, wrong identities included.
    pub(crate) refused_streams: Counter,
    /// From a registry's event to the acknowledgement of a proxy that it concerns.
    pub(crate) convergence: Histogram,
}

/// A count that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub(crate) fn add(&self, n: usize) {
        self.0.fetch_add(n as u64, Relaxed);
    }

    /// The count.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Durations by size.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BOUNDS_MS.len()],
    count: AtomicU64,
    sum_micros: AtomicU64,
}

impl Histogram {
    /// Counts one.
    pub(crate) fn observe(&self, duration: Duration) {
        let bound = BOUNDS_MS.iter().position(|&bound| duration <= Duration::from_millis(bound));
        if let Some(bucket) = bound.and_then(|n| self.buckets.get(n)) {
            bucket.fetch_add(1, Relaxed);
        }
        self.count.fetch_add(1, Relaxed);
        self.sum_micros.fetch_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Upper bound in seconds and cumulative count of each bucket, without `+Inf`.
    pub(crate) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut total = 0;
        BOUNDS_MS.iter().zip(&self.buckets).map(move |(&bound, bucket)| {
            total += bucket.load(Relaxed);
            (bound as f64 / 1000.0, total)
        })
    }

    /// How many, and their sum in seconds.
    pub(crate) fn count_and_sum(&self) -> (u64, f64) {
        (self.count.load(Relaxed), self.sum_micros.load(Relaxed) as f64 / 1e6)
    }
}

/// Convergence is some milliseconds when all is well and seconds when a proxy is far away or slow.
const BOUNDS_MS: [u64; 11] = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_the_largest_values_are_in_the_count_alone() {
        let histogram = Histogram::default();
        for ms in [1, 10, 11, 60_000] {
            histogram.observe(Duration::from_millis(ms));
        }
        let buckets: Vec<u64> = histogram.cumulative().map(|(_, count)| count).collect();
        assert_eq!(buckets[..4], [1, 2, 3, 3]);
        assert_eq!(buckets.last(), Some(&3));
        assert_eq!(histogram.count_and_sum(), (4, 60.022));
    }
}
