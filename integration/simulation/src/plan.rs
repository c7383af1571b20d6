//! What a seed is run with: how many of everything, for how long, with which faults.
//!
//! All of it follows from the seed; each part can be cut down, which is how a failure is made smaller and replayed.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::rng::Rng;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Fault {
    /// Streams break; what is under way on them is lost.
    Resets,
    /// Some hosts can't reach the others for a while.
    Partitions,
    /// Proxies restart, with and without what they saved.
    ProxyRestarts,
    /// Control planes restart, with what they stored, with an older state, and with none.
    PlaneRestarts,
    /// A host's wall clock is wrong by minutes or hours for a while.
    ClockJumps,
    /// Some proxies don't understand some resources.
    Nacks,
    /// Registries are down, deny, or answer garbage.
    Outages,
    /// Registries come back empty for a moment.
    EmptyRestarts,
    /// Registries take seconds to answer.
    Slow,
    /// Trust bundles change.
    Rotations,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Fault; 10] = [
        Fault::Resets,
        Fault::Partitions,
        Fault::ProxyRestarts,
        Fault::PlaneRestarts,
        Fault::ClockJumps,
        Fault::Nacks,
        Fault::Outages,
        Fault::EmptyRestarts,
        Fault::Slow,
        Fault::Rotations,
    ];
}

/// A run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// How many proxies.
    pub proxies: usize,
    /// How many control planes.
    pub planes: usize,
    /// How many registries, which every control plane follows.
    pub registries: usize,
    /// How many services there may be.
    pub services: usize,
    /// How long things change and go wrong.
    pub chaos: Duration,
    /// What may go wrong.
    pub faults: BTreeSet<Fault>,
    /// When a response is closed, in bytes.
    pub max_response: usize,
    /// How long a certificate lives.
    pub leaf_ttl: Duration,
}

impl Plan {
    /// The run of a seed: mostly small, since what goes wrong with fifty proxies mostly does with five.
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed, 0);
        let proxies = match rng.below(20) {
            0 => rng.between(21, 50),
            1..=4 => rng.between(9, 20),
            _ => rng.between(5, 8),
        };
        // Each fault is absent from some runs, so that none hides what another one does.
        let faults = Fault::ALL.into_iter().filter(|_| rng.percent(60)).collect();
        Self {
            seed,
            proxies: proxies as usize,
            planes: if rng.percent(40) { 2 } else { 1 },
            registries: rng.between(1, 3) as usize,
            services: rng.between(2, 7) as usize,
            chaos: Duration::from_secs(rng.between(30, 200)),
            faults,
            max_response: [1, 400, 1 << 20][rng.below(3)],
            leaf_ttl: Duration::from_secs([200, 300, 400][rng.below(3)]),
        }
    }

    /// Whether a kind of fault happens.
    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// Plans with a little less, each to be tried.
    pub(crate) fn smaller(&self) -> Vec<Plan> {
        let mut plans = Vec::new();
        for proxies in [1, self.proxies / 2, self.proxies.saturating_sub(1)] {
            if (1..self.proxies).contains(&proxies) {
                plans.push(Plan { proxies, ..self.clone() });
            }
        }
        if self.planes > 1 {
            plans.push(Plan { planes: 1, ..self.clone() });
        }
        if self.registries > 1 {
            plans.push(Plan { registries: self.registries - 1, ..self.clone() });
        }
        if self.services > 1 {
            plans.push(Plan { services: self.services - 1, ..self.clone() });
        }
        for fault in &self.faults {
            let mut faults = self.faults.clone();
            faults.remove(fault);
            plans.push(Plan { faults, ..self.clone() });
        }
        for part in [4, 2] {
            let chaos = Duration::from_secs(self.chaos.as_secs() / part);
            if chaos >= Duration::from_secs(5) {
                plans.push(Plan { chaos, ..self.clone() });
            }
        }
        plans
    }
}

/// The arguments that make this plan again.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_seed = Plan::of(self.seed);
        write!(f, "--seed {}", self.seed)?;
        let counts = [
            ("proxies", self.proxies, of_seed.proxies),
            ("planes", self.planes, of_seed.planes),
            ("registries", self.registries, of_seed.registries),
            ("services", self.services, of_seed.services),
            ("seconds", self.chaos.as_secs() as usize, of_seed.chaos.as_secs() as usize),
        ];
        for (name, count, of_seed) in counts {
            if count != of_seed {
                write!(f, " --{name} {count}")?;
            }
        }
        for fault in of_seed.faults.difference(&self.faults) {
            let value = clap::ValueEnum::to_possible_value(fault);
            write!(f, " --without {}", value.as_ref().map_or("", |value| value.get_name()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_one_plan_and_prints_as_its_seed() {
        for seed in 0..100 {
            assert_eq!(Plan::of(seed), Plan::of(seed));
            assert_eq!(Plan::of(seed).to_string(), format!("--seed {seed}"));
        }
    }

    #[test]
    fn seeds_have_from_five_to_fifty_proxies_and_each_fault() {
        let plans: Vec<Plan> = (0..2_000).map(Plan::of).collect();
        let proxies = |plan: &Plan| plan.proxies;
        assert_eq!(plans.iter().map(proxies).min(), Some(5));
        assert_eq!(plans.iter().map(proxies).max(), Some(50));
        for fault in Fault::ALL {
            let with = plans.iter().filter(|plan| plan.has(fault)).count();
            assert!((600..1_600).contains(&with), "{fault:?}: {with}");
        }
    }
}
