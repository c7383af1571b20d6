//! The replacement of the own root while the CA runs: which step is next, and what it waits for. Pure: takes the time.
//!
//! `announced`: the bundle has the old root and the new one, the old one signs. `switched`: the new one signs. `retired`:
//! the old one is out of the bundle. A step is durable before it is taken (`authority/rotate.rs`), so that a restart goes on
//! with the same one. Two rules keep every handshake good: nobody is shown a leaf of the new root who may not know it, and
//! the old root stays while a leaf of it can be alive.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// How far the replacement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RotationPhase {
    /// Both roots are trusted, the old one signs.
    Announced,
    /// Both roots are trusted, the new one signs.
    Switched,
    /// The old root is out; only its files are still to be removed.
    Retired,
}

/// A replacement under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// How far it is.
    pub phase: RotationPhase,
    /// Since when, in Unix seconds.
    pub since: u64,
    /// The operator does not want to wait for the next step.
    pub forced: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RotationStep {
    /// Nothing yet.
    Wait {
        /// At the earliest then, whatever else is waited for.
        until: SystemTime,
    },
    /// The new root is to sign.
    Switch,
    /// The old root is to be taken out.
    Retire,
}

impl Rotation {
    /// One that begins now.
    pub fn begin(now: SystemTime) -> Self {
        Self { phase: RotationPhase::Announced, since: unix(now), forced: false }
    }

    /// The same in its next phase.
    #[must_use]
    pub fn entered(&self, phase: RotationPhase, now: SystemTime) -> Self {
        Self { phase, since: unix(now), forced: false }
    }

    /// What is to be done, given whether every connected proxy has acknowledged the bundle with both roots.
    ///
    /// A proxy that is not connected is not asked. But its leaf lives for `leaf_ttl` at most, and with a new one it is
    /// handed the bundle: after that time whoever has a valid leaf knows both roots.
    pub fn step(&self, all_acknowledged: bool, leaf_ttl: Duration, now: SystemTime) -> RotationStep {
        let until = self.earliest(leaf_ttl);
        match self.phase {
            RotationPhase::Announced if self.forced || (all_acknowledged && now >= until) => {
                RotationStep::Switch
            }
            RotationPhase::Switched if self.forced || now >= until => RotationStep::Retire,
            RotationPhase::Retired => RotationStep::Retire,
            RotationPhase::Announced | RotationPhase::Switched => RotationStep::Wait { until },
        }
    }

    /// When the next step can be at the earliest.
    pub fn earliest(&self, leaf_ttl: Duration) -> SystemTime {
        // Seconds are cut off, and clocks differ a little.
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.since) + leaf_ttl + GRACE
    }
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

const GRACE: Duration = Duration::from_secs(6);

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(100);

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
    }

    #[test]
    fn the_new_root_signs_when_all_have_acknowledged_and_a_leafs_life_is_over() {
        let rotation = Rotation::begin(at(0));
        let wait = RotationStep::Wait { until: at(106) };
        for (all, now, step) in [
            (false, 0, wait.clone()),
            (true, 0, wait.clone()),
            (true, 105, wait.clone()),
            (false, 1000, wait),
            (true, 106, RotationStep::Switch),
        ] {
            assert_eq!(rotation.step(all, TTL, at(now)), step, "{all} at {now}");
        }
    }

    #[test]
    fn the_old_root_goes_when_its_last_leaf_is_over_whoever_is_connected() {
        let rotation = Rotation::begin(at(0)).entered(RotationPhase::Switched, at(200));
        assert_eq!(rotation.step(true, TTL, at(305)), RotationStep::Wait { until: at(306) });
        assert_eq!(rotation.step(false, TTL, at(306)), RotationStep::Retire);
    }

    #[test]
    fn force_is_for_one_step() {
        let forced = Rotation { forced: true, ..Rotation::begin(at(0)) };
        assert_eq!(forced.step(false, TTL, at(1)), RotationStep::Switch);
        let next = forced.entered(RotationPhase::Switched, at(1));
        assert_eq!(next.step(true, TTL, at(2)), RotationStep::Wait { until: at(107) });
    }

    #[test]
    fn a_clock_that_is_set_back_delays_and_never_hastens() {
        let rotation = Rotation::begin(at(50)).entered(RotationPhase::Switched, at(60));
        assert!(matches!(rotation.step(true, TTL, at(0)), RotationStep::Wait { .. }));
    }
}
