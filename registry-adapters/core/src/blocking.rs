//! The two rules that keep a blocking query honest: which index to ask with, and how soon to ask again.
//!
//! For Consul and Nomad, which have the same queries. Pure: `now` is an argument. From their "Blocking Queries" pages: an index that goes back means start over, 0 must
//! be asked as 1 (0 does not block), and a client limits its own loop, since one busy service may wake it at any rate.

use std::time::{Duration, Instant};

/// The index of the last answer of one query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlockingIndex(Option<u64>);

impl BlockingIndex {
    /// The index to block on. `None`: ask for what there is, at once.
    pub fn get(self) -> Option<u64> {
        self.0
    }

    /// Forgets the index: the next query answers at once.
    pub fn start_over(&mut self) {
        self.0 = None;
    }

    /// Takes the index of an answer. An answer without one cannot be blocked on: the next query starts over, and
    /// [`Pace`] alone limits the loop.
    pub fn answered(&mut self, index: Option<u64>) {
        let index = index.map(|index| index.max(1));
        self.0 = match (self.0, index) {
            (Some(asked), Some(got)) if got < asked => None,
            (_, got) => got,
        };
    }
}

/// A token bucket over one query loop: changes are seen at once, a storm of them at a steady rate.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    /// When the bucket is full again. The further ahead, the emptier it is.
    full_at: Option<Instant>,
}

impl Pace {
    /// Answers that are taken at once after a quiet time.
    const BURST: u32 = 5;
    /// One more for each of these: at most two reads a second in a storm.
    const REFILL: Duration = Duration::from_millis(500);

    /// A full bucket.
    pub fn new() -> Self {
        Self { full_at: None }
    }

    /// Takes one token. Returns how long to wait first.
    pub fn take(&mut self, now: Instant) -> Duration {
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + Self::REFILL;
        self.full_at = Some(full_at);
        full_at.saturating_duration_since(now).saturating_sub(Self::REFILL * Self::BURST)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_index_that_goes_back_starts_over() {
        let mut index = BlockingIndex::default();
        index.answered(Some(90));
        assert_eq!(index.get(), Some(90));
        index.answered(Some(12));
        assert_eq!(index.get(), None);
        index.answered(Some(12));
        assert_eq!(index.get(), Some(12));
    }

    #[test]
    fn zero_is_asked_as_one_and_a_missing_index_is_not_blocked_on() {
        let mut index = BlockingIndex::default();
        index.answered(Some(0));
        assert_eq!(index.get(), Some(1));
        index.answered(None);
        assert_eq!(index.get(), None);
    }

    proptest! {
        #[test]
        fn the_asked_index_is_never_zero_and_never_above_the_last_answer(answers in prop::collection::vec(any::<Option<u64>>(), 1..50)) {
            let mut index = BlockingIndex::default();
            for answer in answers {
                index.answered(answer);
                if let Some(asked) = index.get() {
                    prop_assert!(asked >= 1);
                    prop_assert_eq!(Some(asked), answer.map(|answer| answer.max(1)));
                }
            }
        }

        #[test]
        fn no_pattern_of_answers_beats_the_pace(gaps in prop::collection::vec(0u64..2_000, 1..200)) {
            let start = Instant::now();
            let (mut pace, mut now, mut taken) = (Pace::new(), start, 0u32);
            for gap in gaps {
                now += Duration::from_millis(gap);
                now += pace.take(now);
                taken += 1;
                let allowed = Pace::BURST + u32::try_from((now - start).as_millis() / Pace::REFILL.as_millis()).unwrap();
                prop_assert!(taken <= allowed, "{} taken after {:?}", taken, now - start);
            }
        }

        #[test]
        fn a_slow_loop_never_waits(gaps in prop::collection::vec(500u64..5_000, 1..100)) {
            let (mut pace, mut now) = (Pace::new(), Instant::now());
            for gap in gaps {
                now += Duration::from_millis(gap);
                prop_assert_eq!(pace.take(now), Duration::ZERO);
            }
        }
    }
}
