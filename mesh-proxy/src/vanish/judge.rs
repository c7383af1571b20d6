//! Whether the other end of a connection is still there, from what the kernel knows. Pure: time is a parameter.

use std::time::{Duration, Instant};

/// A connection as the kernel sees it from the sending side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sending {
    /// Segments that are sent and not acknowledged.
    pub(super) unacknowledged: u32,
    /// Retransmission time-outs in a row, without an acknowledgement of anything new between them.
    pub(super) timeouts: u32,
    /// Since the last acknowledgement of any kind.
    pub(super) since_ack: Duration,
    /// The current retransmission time-out: doubled with each of `timeouts`.
    pub(super) timeout: Duration,
}

/// What to think of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All was acknowledged.
    Heard,
    /// Something is on its way, for no unusual time.
    Waiting,
    /// A retransmission was not answered either.
    Doubtful,
    /// Several were not, for seconds.
    Lost,
}

/// Follows one connection.
#[derive(Debug, Default)]
pub(super) struct Judge {
    /// Since when it has been seen with something unacknowledged, without an acknowledgement between.
    waiting: Option<Instant>,
}

/// Never in doubt before: above the retransmission time-out of a near host (200 ms), so that one was tried.
const DOUBT_AFTER: Duration = Duration::from_millis(300);
/// In parts of the time-out after the first one, which was doubled: the retransmission's answer is due at half of it.
const DOUBT_TIMEOUTS: f64 = 0.9;
/// A host that pauses (a virtual machine that moves) is back by then.
const LOST_AFTER: Duration = Duration::from_secs(5);
/// So that far hosts with long time-outs are asked often enough, too.
const LOST_TIMEOUTS: u32 = 3;

impl Judge {
    /// Judges what the kernel says at `now`.
    pub(super) fn look(&mut self, sending: &Sending, now: Instant) -> Verdict {
        if sending.unacknowledged == 0 {
            self.waiting = None;
            return Verdict::Heard;
        }
        // Before the first look at this wait an acknowledgement may be long ago: an idle connection has none.
        let since = *self.waiting.get_or_insert(now);
        let waited = now.saturating_duration_since(since).min(sending.since_ack);
        self.waiting = now.checked_sub(waited).or(Some(now));
        if sending.timeouts >= LOST_TIMEOUTS && waited >= LOST_AFTER {
            return Verdict::Lost;
        }
        if sending.timeouts == 0 || waited < DOUBT_AFTER.max(sending.after_first().mul_f64(DOUBT_TIMEOUTS)) {
            return Verdict::Waiting;
        }
        Verdict::Doubtful
    }
}

impl Sending {
    /// The time-out as it was after the first one: a doubt must not end because the kernel asks less often.
    fn after_first(&self) -> Duration {
        self.timeout / 2u32.saturating_pow(self.timeouts.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn silent(timeouts: u32, since_ack: Duration) -> Sending {
        // As Linux does it: 200 ms, doubled with each time-out.
        Sending { unacknowledged: 2, timeouts, since_ack, timeout: 200 * MS * 2u32.pow(timeouts) }
    }

    #[test]
    fn a_silent_host_is_in_doubt_after_one_retransmission_and_lost_after_seconds_of_them() {
        let start = Instant::now();
        let mut judge = Judge::default();
        let mut at = |ms: u32, timeouts| judge.look(&silent(timeouts, ms * MS), start + ms * MS);
        assert_eq!(at(0, 0), Verdict::Waiting);
        assert_eq!(at(300, 1), Verdict::Waiting);
        assert_eq!(at(400, 1), Verdict::Doubtful);
        assert_eq!(at(650, 2), Verdict::Doubtful);
        assert_eq!(at(1_500, 3), Verdict::Doubtful, "nothing is broken off yet");
        assert_eq!(at(5_000, 4), Verdict::Lost);
    }

    #[test]
    fn an_acknowledgement_starts_the_wait_anew() {
        let start = Instant::now();
        let mut judge = Judge::default();
        judge.look(&silent(0, 900 * MS), start);
        assert_eq!(judge.look(&silent(1, 50 * MS), start + 900 * MS), Verdict::Waiting);
        assert_eq!(judge.look(&silent(1, 200 * MS), start + 1_050 * MS), Verdict::Waiting);
        assert_eq!(judge.look(&silent(1, 450 * MS), start + 1_300 * MS), Verdict::Doubtful);
        let all = Sending { unacknowledged: 0, ..silent(0, 450 * MS) };
        assert_eq!(judge.look(&all, start + 1_300 * MS), Verdict::Heard);
    }

    #[test]
    fn a_connection_that_was_idle_for_long_is_not_in_doubt_when_it_sends_again() {
        let start = Instant::now();
        let mut judge = Judge::default();
        let hour = Duration::from_secs(3600);
        assert_eq!(judge.look(&silent(0, hour), start), Verdict::Waiting);
        assert_eq!(judge.look(&silent(1, hour), start + 200 * MS), Verdict::Waiting);
        assert_eq!(judge.look(&silent(1, hour), start + 400 * MS), Verdict::Doubtful);
    }

    #[test]
    fn without_a_retransmission_nobody_is_in_doubt_however_slow() {
        let start = Instant::now();
        let mut judge = Judge::default();
        judge.look(&silent(0, 10_000 * MS), start);
        assert_eq!(judge.look(&silent(0, 10_000 * MS), start + 10_000 * MS), Verdict::Waiting);
    }

    #[test]
    fn a_far_host_gets_as_much_more_time_as_it_is_farther() {
        let start = Instant::now();
        let mut judge = Judge::default();
        let far = |since| Sending { timeout: 2_000 * MS, ..silent(1, since) };
        judge.look(&far(MS), start);
        assert_eq!(judge.look(&far(1_700 * MS), start + 1_700 * MS), Verdict::Waiting);
        assert_eq!(judge.look(&far(1_900 * MS), start + 1_900 * MS), Verdict::Doubtful);
    }
}
