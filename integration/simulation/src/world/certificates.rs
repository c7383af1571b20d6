//! What becomes of certificates: the schedule asks, a control plane issues, the proxy looks at what came.

use std::time::{Duration, SystemTime};

use weft_identity::{RenewalSchedule, Step};

use super::{Host, World, moment_of};
use crate::invariants::{Violation, identity_kept};
use crate::leaf::Leaf;
use crate::queue::Event;

/// A control plane that can't be reached costs a call this long.
const CALL: Duration = Duration::from_secs(10);
/// The issuing certificate outlives the simulation.
const ISSUER_LIFE: Duration = Duration::from_secs(365 * 86_400);

impl World {
    pub(super) fn on_keep(&mut self, proxy: usize, run: u64) {
        let it = &self.proxies[proxy];
        if it.run != run || !it.up {
            return;
        }
        match it.keeping.step(self.wall(Host::Proxy(proxy)), self.instant()) {
            Step::Wait(wait) => self.after(wait, Event::Keep { proxy, run }),
            Step::Renew | Step::Attest => {
                let left = self.planes.len();
                let wait = self.dice.network.millis(1, 100);
                self.after(wait, Event::Apply { proxy, run, plane: 0, left });
            }
        }
    }

    /// A request for a certificate is at a control plane, or would be: the next one is asked where it is not.
    pub(super) fn on_apply(&mut self, proxy: usize, run: u64, plane: usize, left: usize) {
        if left == 0 {
            return self.after(Duration::ZERO, Event::Issued { proxy, run, leaf: None });
        }
        let next = Event::Apply { proxy, run, plane: plane + 1, left: left - 1 };
        if self.blocked(Host::Proxy(proxy), Host::Plane(plane)) {
            return self.after(CALL, next);
        }
        if self.planes[plane].running.is_none() {
            return self.after(Duration::from_millis(2), next);
        }
        let wall = self.wall(Host::Plane(plane));
        let Ok((not_before, not_after)) = weft_ca::leaf_life(wall + ISSUER_LIFE, self.plan.leaf_ttl, wall)
        else {
            return self.after(Duration::from_millis(2), next);
        };
        let wrong_clock = self.planes[plane].wall != 0;
        let leaf = Leaf { not_before, not_after, obtained: Duration::ZERO, wrong_clock };
        let wait = self.dice.network.millis(1, 100);
        self.after(wait, Event::Issued { proxy, run, leaf: Some(leaf) });
    }

    pub(super) fn on_issued(&mut self, proxy: usize, run: u64, leaf: Option<Leaf>) {
        if self.proxies[proxy].run != run || !self.proxies[proxy].up {
            return;
        }
        let (wall, now, at) = (self.wall(Host::Proxy(proxy)), self.instant(), self.now);
        let chance = self.dice.network.unit();
        let it = &mut self.proxies[proxy];
        let good = leaf.filter(|leaf| weft_identity::validity(leaf.not_before, leaf.not_after, wall).is_ok());
        match good {
            Some(leaf) => {
                it.keeping.obtained(leaf.not_before, RenewalSchedule::new(wall, leaf.not_after, chance));
                let leaf = Leaf { obtained: at, wrong_clock: leaf.wrong_clock || it.wall != 0, ..leaf };
                it.leaf = Some(leaf);
                self.figures.certificates += 1;
                self.queue.put(moment_of(leaf.not_after).max(at), Event::LeafEnds { proxy, leaf });
            }
            None => {
                it.keeping.failed(wall, now, chance);
            }
        }
        let ends = good.map(|leaf| moment_of(leaf.not_after).as_secs_f64());
        self.say(Host::Proxy(proxy), || match ends {
            Some(ends) => format!("has a certificate until {ends:.3} s"),
            None => "gets no certificate".to_owned(),
        });
        self.after(Duration::from_millis(1), Event::Keep { proxy, run });
    }

    pub(super) fn on_leaf_ends(&mut self, proxy: usize, leaf: &Leaf) -> Result<(), Violation> {
        let it = &self.proxies[proxy];
        if it.leaf == Some(*leaf) && it.up {
            self.figures.expired += 1;
            self.say(Host::Proxy(proxy), || "its certificate has expired");
        }
        let named = |violation: Violation| Violation {
            what: format!("proxy {proxy}: {}", violation.what),
            ..violation
        };
        identity_kept::check(&self.proxies[proxy], leaf, self.planes.len() as u32, self.now).map_err(named)
    }

    /// Takes note of which proxies a control plane could issue to now.
    pub(super) fn note_reachable(&mut self) {
        for proxy in 0..self.proxies.len() {
            let it = &self.proxies[proxy];
            let issues = |plane: usize| {
                let it = &self.planes[plane];
                it.running.is_some() && it.wall == 0 && !self.blocked(Host::Proxy(proxy), Host::Plane(plane))
            };
            // All of them: one whose clock is wrong may be the one that is asked.
            let reachable = it.up && it.wall == 0 && self.issuing(proxy, issues);
            let now = self.now;
            let stretches = &mut self.proxies[proxy].reachable;
            match (stretches.last_mut().filter(|(_, to)| to.is_none()), reachable) {
                (None, true) => stretches.push((now, None)),
                (Some((_, to)), false) => *to = Some(now),
                (None, false) | (Some(_), true) => {}
            }
        }
    }

    /// The first control plane that answers has a clock that is right.
    fn issuing(&self, proxy: usize, issues: impl Fn(usize) -> bool) -> bool {
        let answers = |plane: &usize| {
            self.planes[*plane].running.is_some() && !self.blocked(Host::Proxy(proxy), Host::Plane(*plane))
        };
        (0..self.planes.len()).find(answers).is_some_and(issues)
    }

    /// Sets a host's wall clock off by so many seconds.
    pub(super) fn set_clock(&mut self, host: Host, wrong: i64) {
        match host {
            Host::Proxy(n) => self.proxies[n].wall = wrong,
            Host::Plane(n) => self.planes[n].wall = wrong,
            Host::Registry(_) => {}
        }
        let wall = self.wall(host).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.say(host, || format!("its clock is {wrong} s wrong ({} s)", wall.as_secs()));
        self.note_reachable();
    }
}
