//! A latency average that believes bad news at once and good news slowly.
//!
//! An endpoint that turns slow loses requests with its first slow answer; one that recovers is trusted again over
//! some ten seconds of answers. Where none come, since nobody is sent there any more, a memory fades sooner: else one
//! slow first answer would keep an endpoint out for minutes where callers are few. Nobody observed yet costs nothing until it has one request in flight, so a new endpoint is
//! tried once before it is trusted. Pure: time is a parameter.

use std::time::{Duration, Instant};

/// How long the memory of a latency lasts, in seconds, while there are answers at least every [`SPARSE`] seconds …
const DECAY: f64 = 10.0;
/// … and how long beyond that.
const DECAY_UNSEEN: f64 = 2.5;
/// See [`DECAY`].
const SPARSE: f64 = 1.0;
/// What a request in flight costs at an endpoint that has not answered any: more than any real one.
const UNPROVEN: f64 = 1e9;

/// The average of one endpoint.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PeakEwma {
    observed: Option<(f64, Instant)>,
}

impl PeakEwma {
    /// Takes note of an answer.
    pub(crate) fn observe(&mut self, latency: Duration, now: Instant) {
        let sample = latency.as_secs_f64() * 1e6;
        let next = match self.observed {
            None => sample,
            Some((value, _)) if sample > value => sample,
            Some((value, at)) => {
                let keep = decay(now.saturating_duration_since(at));
                value * keep + sample * (1.0 - keep)
            }
        };
        self.observed = Some((next, now));
    }

    /// What one more request costs, with `in_flight` there already.
    pub(crate) fn cost(&self, in_flight: u32, now: Instant) -> f64 {
        match self.observed {
            // A floor of a microsecond: requests in flight count even where answers take no time.
            Some((value, at)) => {
                let sunk = value * decay(now.saturating_duration_since(at));
                sunk.max(1.0) * f64::from(in_flight.saturating_add(1))
            }
            None => UNPROVEN * f64::from(in_flight),
        }
    }
}

fn decay(elapsed: Duration) -> f64 {
    let elapsed = elapsed.as_secs_f64();
    (-elapsed.min(SPARSE) / DECAY - (elapsed - SPARSE).max(0.0) / DECAY_UNSEEN).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_answer_counts_at_once_and_is_forgotten_slowly() {
        let start = Instant::now();
        let mut average = PeakEwma::default();
        average.observe(Duration::from_millis(1), start);
        average.observe(Duration::from_millis(100), start);
        assert!((average.cost(0, start) - 100_000.0).abs() < 1.0);
        let mut later = start;
        for _ in 0..100 {
            later += Duration::from_millis(100);
            average.observe(Duration::from_millis(1), later);
        }
        let cost = average.cost(0, later);
        assert!(cost > 30_000.0 && cost < 45_000.0, "{cost}");
    }

    #[test]
    fn one_slow_first_answer_is_forgiven_within_seconds_where_nobody_asks_again() {
        let start = Instant::now();
        let (mut slow, mut good) = (PeakEwma::default(), PeakEwma::default());
        slow.observe(Duration::from_millis(100), start);
        let picked_again = (1..60u64).find(|second| {
            let now = start + Duration::from_secs(*second);
            good.observe(Duration::from_millis(1), now);
            slow.cost(0, now) < good.cost(0, now)
        });
        assert!(picked_again.is_some_and(|second| (5..15).contains(&second)), "{picked_again:?}");
        // And then one good answer is enough.
        let now = start + Duration::from_secs(picked_again.unwrap());
        slow.observe(Duration::from_millis(1), now);
        assert!(slow.cost(0, now) < 4.0 * good.cost(0, now));
    }

    #[test]
    fn requests_in_flight_multiply_the_cost() {
        let now = Instant::now();
        let mut average = PeakEwma::default();
        average.observe(Duration::from_millis(2), now);
        assert!((average.cost(3, now) / average.cost(0, now) - 4.0).abs() < 1e-9);
    }

    #[test]
    fn a_new_endpoint_is_tried_with_one_request_before_it_is_trusted() {
        let now = Instant::now();
        let new = PeakEwma::default();
        let mut known = PeakEwma::default();
        known.observe(Duration::from_millis(5), now);
        assert!(new.cost(0, now) < known.cost(0, now));
        assert!(new.cost(1, now) > known.cost(50, now));
    }
}
