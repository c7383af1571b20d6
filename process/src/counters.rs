//! Counts of what happens, for `/metrics`. Plain atomics: at most some thousand steps a second touch them.
//!
//! Names, labels and meanings are each program's own.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: usize) {
        self.0.fetch_add(n as u64, Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One count for each of a fixed list of reasons.
#[derive(Debug)]
pub struct Reasons {
    names: &'static [&'static str],
    counts: Box<[Counter]>,
}

impl Reasons {
    /// Nothing was counted yet. The last name counts whatever is not in the list.
    pub fn new(names: &'static [&'static str]) -> Self {
        Self { names, counts: names.iter().map(|_| Counter::default()).collect() }
    }

    /// Counts one.
    pub fn add(&self, reason: &str) {
        let at = self.names.iter().position(|name| *name == reason);
        if let Some(counter) = at.and_then(|at| self.counts.get(at)).or(self.counts.last()) {
            counter.add(1);
        }
    }

    /// All names with their counts, also those that are 0.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.names.iter().copied().zip(self.counts.iter().map(Counter::get))
    }

    /// The sum.
    pub fn total(&self) -> u64 {
        self.counts.iter().map(Counter::get).sum()
    }
}

/// Durations by size.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [Duration],
    buckets: Box<[AtomicU64]>,
    count: AtomicU64,
    sum_micros: AtomicU64,
}

impl Histogram {
    /// An empty one with these upper bounds, ascending.
    pub fn new(bounds: &'static [Duration]) -> Self {
        let buckets = bounds.iter().map(|_| AtomicU64::default()).collect();
        Self { bounds, buckets, count: AtomicU64::default(), sum_micros: AtomicU64::default() }
    }

    /// Counts one.
    pub fn observe(&self, duration: Duration) {
        let bound = self.bounds.iter().position(|&bound| duration <= bound);
        if let Some(bucket) = bound.and_then(|n| self.buckets.get(n)) {
            bucket.fetch_add(1, Relaxed);
        }
        self.count.fetch_add(1, Relaxed);
        self.sum_micros.fetch_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Upper bound in seconds and cumulative count of each bucket, without `+Inf`.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut total = 0;
        self.bounds.iter().zip(&self.buckets).map(move |(bound, bucket)| {
            total += bucket.load(Relaxed);
            (bound.as_secs_f64(), total)
        })
    }

    /// How many, and their sum in seconds.
    pub fn count_and_sum(&self) -> (u64, f64) {
        (self.count.load(Relaxed), self.sum_micros.load(Relaxed) as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: [Duration; 3] =
        [Duration::from_millis(5), Duration::from_millis(10), Duration::from_millis(25)];

    #[test]
    fn buckets_are_cumulative_and_the_largest_values_are_in_the_count_alone() {
        let histogram = Histogram::new(&BOUNDS);
        for ms in [1, 10, 11, 60_000] {
            histogram.observe(Duration::from_millis(ms));
        }
        let buckets: Vec<u64> = histogram.cumulative().map(|(_, count)| count).collect();
        assert_eq!(buckets, [1, 2, 3]);
        assert_eq!(histogram.count_and_sum(), (4, 60.022));
    }

    #[test]
    fn a_reason_that_is_not_in_the_list_counts_as_the_last_one() {
        let reasons = Reasons::new(&["full", "other"]);
        reasons.add("full");
        reasons.add("unheard of");
        assert_eq!(reasons.iter().collect::<Vec<_>>(), [("full", 1), ("other", 1)]);
        assert_eq!(reasons.total(), 2);
    }
}
