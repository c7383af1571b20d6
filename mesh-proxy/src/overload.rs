//! How loaded the process is, from how much memory it holds: what is taken on depends on it, what runs does not.
//!
//! Two steps, as load is shed early or not at all. [`Pressure::High`]: no new connection, and idle ones are asked to leave.
//! [`Pressure::Full`]: no new request either. A step is left only well below where it was entered, so that shedding does
//! not flap. The machine is pure; the shell's task measures and the workers look at [`Overload::pressure`].

mod files;
mod memory;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

pub(crate) use files::FileLimit;
pub(crate) use memory::limit as memory_limit;

use crate::shared::Shared;

/// What the process may still take on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Pressure {
    /// Everything.
    #[default]
    None,
    /// Requests on the connections that there are.
    High,
    /// Nothing new; what runs goes on.
    Full,
}

/// A limit that is too small for what the proxy knows must make it slow, not useless: it has nothing to shed then.
const ALWAYS: usize = 32;

/// Where a step begins and ends, in thousandths of the limit.
const HIGH: (u64, u64) = (800, 750);
/// See [`HIGH`]. The rest is for what runs.
const FULL: (u64, u64) = (900, 850);

impl Pressure {
    /// The next step after a measurement.
    fn after(self, used: u64, limit: u64) -> Self {
        let share = used.saturating_mul(1000) / limit.max(1);
        let over = |step: Self, (enter, leave): (u64, u64)| share >= if self >= step { leave } else { enter };
        match (over(Self::Full, FULL), over(Self::High, HIGH)) {
            (true, _) => Self::Full,
            (false, true) => Self::High,
            (false, false) => Self::None,
        }
    }

    /// The value of the metric.
    pub(crate) fn number(self) -> u8 {
        self as u8
    }
}

/// The pressure on this process, and the limit that it is measured against.
#[derive(Debug)]
pub(crate) struct Overload {
    /// In bytes; of the whole process.
    pub(crate) limit: u64,
    /// So many connections and requests, a worker, are taken whatever the pressure.
    pub(crate) always: usize,
    held: AtomicU64,
    /// What each request looks at; `changes` says the same to who waits.
    now: AtomicU8,
    changes: watch::Sender<Pressure>,
}

impl Overload {
    /// None yet.
    pub(crate) fn new(limit: u64) -> Self {
        let changes = watch::Sender::new(Pressure::None);
        Self { limit, always: ALWAYS, held: AtomicU64::new(0), now: AtomicU8::new(0), changes }
    }

    /// Now.
    pub(crate) fn pressure(&self) -> Pressure {
        match self.now.load(Ordering::Relaxed) {
            0 => Pressure::None,
            1 => Pressure::High,
            _ => Pressure::Full,
        }
    }

    /// The memory that was held when it was measured last, in bytes.
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// For waiting until it changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Pressure> {
        self.changes.subscribe()
    }

    /// In words, where there is any.
    pub(crate) fn sentence(&self) -> Option<String> {
        let percent = self.held().saturating_mul(100) / self.limit.max(1);
        let what = match self.pressure() {
            Pressure::None => return None,
            Pressure::High => "no new connection is taken",
            Pressure::Full => "no new connection and no new request is taken",
        };
        Some(format!("overloaded: memory is at {percent} % of limits.memory ({} bytes); {what}", self.limit))
    }

    /// Takes note of a measurement. The new step, where it is another one.
    pub(crate) fn measured(&self, held: u64) -> Option<Pressure> {
        self.held.store(held, Ordering::Relaxed);
        let before = self.pressure();
        let after = before.after(held, self.limit);
        (before != after).then(|| {
            self.now.store(after.number(), Ordering::Relaxed);
            self.changes.send_replace(after);
            after
        })
    }
}

/// How often memory is measured while much of it is in use: a look costs some microseconds.
const OFTEN: Duration = Duration::from_millis(100);
/// And while little is.
const RARELY: Duration = Duration::from_millis(500);

/// Measures for ever.
pub(crate) async fn watch(shared: Arc<Shared>) {
    let overload = &shared.overload;
    loop {
        shared.files.look();
        match memory::resident() {
            Ok(held) => {
                if let Some(pressure) = overload.measured(held) {
                    match overload.sentence() {
                        Some(words) => tracing::warn!(held, ?pressure, "{words}"),
                        None => tracing::info!(held, "overloaded no more: everything is taken again"),
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "the memory of this process can't be measured"),
        }
        let much = overload.held() > overload.limit / 4;
        tokio::time::sleep(if much { OFTEN } else { RARELY }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_entered_at_80_and_90_percent_and_left_5_below() {
        let mut pressure = Pressure::None;
        for (used, expected) in [
            (0, Pressure::None),
            (799, Pressure::None),
            (800, Pressure::High),
            (760, Pressure::High),
            (749, Pressure::None),
            (780, Pressure::None),
            (899, Pressure::High),
            (900, Pressure::Full),
            (860, Pressure::Full),
            (849, Pressure::High),
            (760, Pressure::High),
            (5000, Pressure::Full),
            (0, Pressure::None),
        ] {
            pressure = pressure.after(used, 1000);
            assert_eq!(pressure, expected, "at {used}");
        }
    }

    #[test]
    fn who_waits_and_who_looks_see_the_same_and_only_changes_are_told() {
        let overload = Overload::new(1000);
        let mut changes = overload.subscribe();
        assert_eq!(overload.measured(100), None);
        assert!(!changes.has_changed().unwrap());
        assert_eq!(overload.measured(950), Some(Pressure::Full));
        assert_eq!((overload.pressure(), *changes.borrow_and_update()), (Pressure::Full, Pressure::Full));
        assert_eq!(overload.measured(990), None);
        assert!(overload.sentence().unwrap().contains("99 % of limits.memory"));
        assert_eq!(overload.measured(1), Some(Pressure::None));
        assert_eq!(overload.sentence(), None);
    }
}
