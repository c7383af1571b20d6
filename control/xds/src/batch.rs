//! When a change is published: at once where it takes something away or comes alone, else once things are quiet.
//!
//! A call that goes to an endpoint that has left fails; a call that does not yet go to a new one does not. So removals
//! never wait, and take with them what is waiting. Waiting is for company: the first change after a rest has none, and
//! what follows it closely goes together. Pure: the caller sleeps until [`Batch::due`].

use std::time::{Duration, Instant};

use weft_model::Changes;

/// How long updates wait for company, where a publication is not long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSettings {
    /// Published when nothing came for this long.
    pub quiet: Duration,
    /// Published this long after the first at the latest.
    pub longest: Duration,
}

impl Default for BatchSettings {
    fn default() -> Self {
        Self { quiet: Duration::from_millis(10), longest: Duration::from_millis(100) }
    }
}

/// Changes that wait to be published.
#[derive(Debug)]
pub struct Batch {
    settings: BatchSettings,
    waiting: Changes,
    // First and last time something was added.
    since: Option<(Instant, Instant)>,
    // The last publication.
    published: Option<Instant>,
}

impl Batch {
    /// An empty batch.
    pub fn new(settings: BatchSettings) -> Self {
        Self { settings, waiting: Changes::default(), since: None, published: None }
    }

    /// Adds changes; empty ones wake nobody.
    pub fn add(&mut self, changes: Changes, now: Instant) {
        if changes.is_empty() {
            return;
        }
        self.waiting.absorb(changes);
        self.since = Some(self.since.map_or((now, now), |(first, _)| (first, now)));
    }

    /// When to publish; `None` while there is nothing.
    pub fn due(&self) -> Option<Instant> {
        let (first, last) = self.since?;
        let rested = self.published.is_none_or(|published| first >= published + self.settings.quiet);
        match self.waiting.urgent || rested {
            true => Some(first),
            false => Some((last + self.settings.quiet).min(first + self.settings.longest)),
        }
    }

    /// What is to be published now, if it is time.
    pub fn take(&mut self, now: Instant) -> Option<Changes> {
        if self.due()? > now {
            return None;
        }
        Some(self.take_all(now))
    }

    /// All that waits, due or not: for a publication that has another reason (a trust bundle changed).
    pub fn take_all(&mut self, now: Instant) -> Changes {
        self.since = None;
        self.published = Some(now);
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(name: &str, urgent: bool) -> Changes {
        Changes { services: [name.parse().unwrap()].into(), urgent, ..Changes::default() }
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// One that has just published, so that what comes has to wait for company.
    fn busy(start: Instant) -> Batch {
        let mut batch = Batch::new(BatchSettings::default());
        batch.take_all(start);
        batch
    }

    #[test]
    fn the_first_change_after_a_rest_goes_at_once_and_what_follows_closely_goes_together() {
        let (mut batch, start) = (Batch::new(BatchSettings::default()), Instant::now());
        batch.add(change("a", false), start);
        assert_eq!(batch.due(), Some(start));
        assert!(batch.take(start).is_some());
        batch.add(change("b", false), start + ms(2));
        batch.add(change("c", false), start + ms(9));
        assert_eq!(batch.due(), Some(start + ms(19)));
        assert_eq!(batch.take(start + ms(19)).unwrap().services.len(), 2);
        batch.add(change("d", false), start + ms(29));
        assert_eq!(batch.due(), Some(start + ms(29)));
    }

    #[test]
    fn an_update_waits_until_it_is_quiet() {
        let start = Instant::now();
        let mut batch = busy(start);
        assert_eq!(batch.due(), None);
        batch.add(change("a", false), start);
        batch.add(change("b", false), start + ms(8));
        assert_eq!(batch.take(start + ms(17)), None);
        assert_eq!(batch.take(start + ms(18)).unwrap().services.len(), 2);
        assert_eq!((batch.due(), batch.take(start + ms(99))), (None, None));
    }

    #[test]
    fn updates_that_never_pause_are_published_after_100_ms() {
        let start = Instant::now();
        let mut batch = busy(start);
        for at in (0..=96).step_by(4) {
            assert_eq!(batch.take(start + ms(at)), None);
            batch.add(change("a", false), start + ms(at));
        }
        assert_eq!(batch.due(), Some(start + ms(100)));
        assert!(batch.take(start + ms(100)).is_some());
    }

    #[test]
    fn a_removal_goes_at_once_and_takes_the_waiting_along() {
        let start = Instant::now();
        let mut batch = busy(start);
        batch.add(change("a", false), start);
        batch.add(change("b", true), start + ms(1));
        let taken = batch.take(start + ms(1)).unwrap();
        assert_eq!(taken.services.len(), 2);
        batch.add(change("c", false), start + ms(2));
        assert_eq!(batch.take(start + ms(2)), None, "urgency was of the batch before");
    }

    #[test]
    fn nothing_changed_is_nothing_to_publish() {
        let (mut batch, now) = (Batch::new(BatchSettings::default()), Instant::now());
        batch.add(Changes::default(), now);
        assert_eq!(batch.due(), None);
    }
}
