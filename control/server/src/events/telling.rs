//! What was said, what waits to be said, and when the next may be. A pure state machine; it takes the time.
//!
//! A problem is said once while it lasts, and again when it comes back, but the same text at most once an hour: that is how
//! long an API server keeps an Event by default. What reviews lead to comes after problems and has a tighter rate, since
//! anybody may ask for a review.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use weft_ca::{Rate, RateLimit};

use super::note::{Key, Note};

/// How saying it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It has been said, or there is nobody to hear it.
    Done,
    /// The API server can't take it now.
    NotNow,
    /// We may not write it.
    Refused,
}

/// The state for one cluster.
#[derive(Debug)]
pub(super) struct Telling {
    problems: HashMap<Key, Known>,
    waiting: VecDeque<Note>,
    /// Problems that found no room in `waiting`.
    left_out: bool,
    /// What reviews led to, and when.
    reviewed: HashMap<Key, Instant>,
    /// The same that is still to be said, and from when on.
    skipped: VecDeque<(Instant, Note)>,
    rate: Rate,
    skipped_rate: Rate,
    paused_until: Option<Instant>,
    pause: Duration,
}

#[derive(Debug, Default)]
struct Known {
    is_there: bool,
    said: Option<Instant>,
}

impl Telling {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            problems: HashMap::new(),
            waiting: VecDeque::new(),
            left_out: false,
            reviewed: HashMap::new(),
            skipped: VecDeque::new(),
            rate: Rate::new(RATE, now),
            skipped_rate: Rate::new(SKIPPED_RATE, now),
            paused_until: None,
            pause: SHORTEST_PAUSE,
        }
    }

    /// Takes all problems that there are now.
    pub(super) fn on_problems(&mut self, notes: impl Iterator<Item = Note>, now: Instant) {
        let mut there = HashSet::new();
        self.left_out = false;
        for note in notes {
            let key = note.key();
            there.insert(key);
            let known = self.problems.get_mut(&key);
            match known {
                Some(known) if known.is_there || is_recent(known.said, now) => known.is_there = true,
                _ if self.waiting.len() < MOST_WAITING => {
                    self.problems.insert(key, Known { is_there: true, said: None });
                    self.waiting.push_back(note);
                }
                _ => self.left_out = true,
            }
        }
        self.problems.retain(|key, known| {
            known.is_there = there.contains(key);
            known.is_there || is_recent(known.said, now)
        });
        self.waiting.retain(|note| there.contains(&note.key()));
    }

    /// Whether the problems should be told to it again, since there is room now for those that found none.
    pub(super) fn wants_problems(&self) -> bool {
        self.left_out && self.waiting.is_empty()
    }

    /// Takes what a review led to. Its pod will be there in a moment, or never.
    pub(super) fn on_skipped(&mut self, note: Note, now: Instant) {
        if self.reviewed.len() >= MOST_REVIEWED {
            self.reviewed.retain(|_, at| is_recent(Some(*at), now));
        }
        let key = note.key();
        let is_known = is_recent(self.reviewed.get(&key).copied(), now);
        if is_known || self.reviewed.len() >= MOST_REVIEWED || self.skipped.len() >= MOST_SKIPPED {
            return;
        }
        self.reviewed.insert(key, now);
        self.skipped.push_back((now + UNTIL_MADE, note));
    }

    /// What is to be said now. How it went is to be told next.
    pub(super) fn next(&mut self, now: Instant) -> Option<Note> {
        if self.paused_until.is_some_and(|until| now < until) {
            return None;
        }
        if !self.waiting.is_empty() {
            return if self.rate.take(1.0, now) { self.waiting.pop_front() } else { None };
        }
        let is_ready = self.skipped.front().is_some_and(|(from, _)| *from <= now);
        let may = is_ready && self.skipped_rate.take(1.0, now) && self.rate.take(1.0, now);
        if may { self.skipped.pop_front().map(|(_, note)| note) } else { None }
    }

    /// When to ask for the next one again, after there was none; `None`: when there is something new.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let first = match (self.waiting.is_empty(), self.skipped.front()) {
            (false, _) => now,
            (true, Some((from, _))) => *from,
            (true, None) => return None,
        };
        Some(first.max(now + LOOK_AGAIN).max(self.paused_until.unwrap_or(now)))
    }

    /// How saying `note` went.
    pub(super) fn on_outcome(&mut self, note: Note, outcome: Outcome, now: Instant) {
        let known = self.problems.get_mut(&note.key());
        if outcome == Outcome::Done {
            (self.paused_until, self.pause) = (None, SHORTEST_PAUSE);
            if let Some(known) = known {
                known.said = Some(now);
            }
            return;
        }
        match known {
            Some(_) => self.waiting.push_back(note),
            None => self.skipped.push_back((now, note)),
        }
        let pause = if outcome == Outcome::Refused { REFUSED_PAUSE } else { self.pause };
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.paused_until = Some(now + pause);
    }
}

fn is_recent(said: Option<Instant>, now: Instant) -> bool {
    said.is_some_and(|at| now.saturating_duration_since(at) < REPEAT_AFTER)
}

const REPEAT_AFTER: Duration = Duration::from_secs(3600);
/// All together.
const RATE: RateLimit = RateLimit { per_second: 5.0, burst: 50 };
/// Of what reviews lead to.
const SKIPPED_RATE: RateLimit = RateLimit { per_second: 1.0, burst: 10 };
/// A few hundred bytes each; the others are read from the report when these are said.
const MOST_WAITING: usize = 1000;
/// A rollout of host-network pods is one note a controller.
const MOST_SKIPPED: usize = 64;
/// More objects without a proxy are not told of within an hour.
const MOST_REVIEWED: usize = 4096;
/// The object is written after the review, and other webhooks may be asked in between.
const UNTIL_MADE: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(200);
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Rights change when somebody changes them.
const REFUSED_PAUSE: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests;
