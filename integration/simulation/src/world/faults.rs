//! What goes wrong, and how it ends.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Host, Partition, World};
use crate::plan::Fault;
use crate::queue::Event;
use crate::truth::Condition;

/// Shorter than it takes until a listing that lacks most is believed.
const LIE: Duration = Duration::from_secs(15);

impl World {
    pub(super) fn on_fault(&mut self, fault: Fault) {
        if self.is_calm() {
            return;
        }
        match fault {
            Fault::Resets => self.reset_some(),
            Fault::Partitions => self.partition_some(),
            Fault::ProxyRestarts => self.restart_proxy(),
            Fault::PlaneRestarts => self.restart_plane(),
            Fault::ClockJumps => self.jump_clock(),
            Fault::Outages => self.outage(),
            Fault::EmptyRestarts => self.empty(),
            Fault::Rotations => self.rotate(),
            // What proxies understand, and how slow a registry is, is so from the beginning.
            Fault::Nacks | Fault::Slow => return,
        }
        let wait = self.dice.faults.millis(2_000, 90_000);
        self.after(wait, Event::Fault(fault));
    }

    fn reset_some(&mut self) {
        let percent = [10, 50, 100][self.dice.faults.below(3)];
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            if self.dice.faults.percent(percent) {
                self.break_link(link, "reset");
            }
        }
    }

    fn partition_some(&mut self) {
        if self.partition.is_some() {
            return;
        }
        let proxies = (0..self.proxies.len()).map(Host::Proxy);
        let planes = (0..self.planes.len()).map(Host::Plane);
        let hosts = proxies.chain(planes).chain((0..self.truths.len()).map(Host::Registry));
        let apart: BTreeSet<Host> = hosts.filter(|_| self.dice.faults.percent(35)).collect();
        let until = self.now + self.dice.faults.millis(500, 150_000);
        self.partitions += 1;
        let number = self.partitions;
        let names: Vec<String> = apart.iter().map(ToString::to_string).collect();
        self.trace.say(self.now, &"network", || format!("apart: {}", names.join(", ")));
        self.partition = Some(Partition { number, apart, until });
        self.queue.put(until, Event::PartitionEnds { partition: number });
        self.watch_partition(number);
        self.note_reachable();
    }

    pub(super) fn on_partition_ends(&mut self, number: u64) {
        if self.partition.take_if(|partition| partition.number == number).is_some() {
            self.trace.say(self.now, &"network", || "whole again");
            (0..self.planes.len()).for_each(|plane| self.send_published(plane));
            self.note_reachable();
        }
    }

    fn restart_proxy(&mut self) {
        let proxy = self.dice.faults.below(self.proxies.len());
        let it = &mut self.proxies[proxy];
        if !it.up {
            return;
        }
        it.up = false;
        if self.dice.faults.percent(30) {
            it.saved.clear();
        }
        if self.dice.faults.percent(20) {
            it.leaf = None;
        }
        let link = it.link.take();
        self.say(Host::Proxy(proxy), || "stops");
        if let Some(link) = link {
            self.break_link(link, "the proxy is gone");
        }
        self.note_reachable();
        let wait = self.dice.faults.millis(10, 60_000);
        self.after(wait, Event::ProxyStarts { proxy });
    }

    fn restart_plane(&mut self) {
        let plane = self.dice.faults.below(self.planes.len());
        if self.planes[plane].running.is_none() {
            return;
        }
        let how = self.dice.faults.below(4);
        if how == 0 {
            self.store(plane); // it was asked to stop
        }
        self.stop_plane(plane);
        let it = &mut self.planes[plane];
        for (file, older) in it.files.iter_mut().zip(&it.older) {
            match how {
                1 => *file = None,
                2 if older.is_some() => *file = older.clone(),
                _ => {}
            }
        }
        let wait = self.dice.faults.millis(10, 45_000);
        self.after(wait, Event::PlaneStarts { plane });
        // It may be the same power cut that a registry comes back from without its state.
        if self.plan.has(Fault::EmptyRestarts) && wait < LIE && self.dice.faults.percent(50) {
            self.empty();
        }
    }

    fn stop_plane(&mut self, plane: usize) {
        self.planes[plane].running = None;
        self.say(Host::Plane(plane), || "stops");
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            if self.links.get(&link).is_some_and(|link| link.plane == plane) {
                self.break_link(link, "the control plane is gone");
            }
        }
        self.note_reachable();
    }

    fn jump_clock(&mut self) {
        let faults = &mut self.dice.faults;
        let host = match faults.percent(30) {
            true => Host::Plane(faults.below(self.planes.len())),
            false => Host::Proxy(faults.below(self.proxies.len())),
        };
        let by = faults.between(60, 6 * 3600) as i64;
        let by = if faults.percent(50) { by } else { -by };
        let wait = faults.millis(1_000, 120_000);
        self.set_clock(host, by);
        self.after(wait, Event::ClockRight { host });
    }

    fn outage(&mut self) {
        let registry = self.dice.faults.below(self.truths.len());
        if self.truths[registry].condition != Condition::Up {
            return;
        }
        let conditions =
            [Condition::Down, Condition::Down, Condition::Denied, Condition::NotFound, Condition::Garbage];
        let condition = conditions[self.dice.faults.below(conditions.len())];
        // A flap or a real outage.
        let most = if self.dice.faults.percent(40) { 2_000 } else { 120_000 };
        let wait = self.dice.faults.millis(100, most);
        self.enter(registry, condition, wait);
    }

    fn empty(&mut self) {
        let registry = self.dice.faults.below(self.truths.len());
        let doubts = |plane: &crate::plane::Plane| {
            plane.running.as_ref().is_some_and(|it| it.sources[registry].freshness.held_reset.is_some())
        };
        if self.truths[registry].condition == Condition::Up && !self.planes.iter().any(doubts) {
            let wait = self.dice.faults.millis(500, LIE.as_millis() as u64);
            self.enter(registry, Condition::Empty, wait);
        }
    }

    fn enter(&mut self, registry: usize, condition: Condition, wait: Duration) {
        self.truths[registry].condition = condition;
        self.say(Host::Registry(registry), || format!("{condition:?} for {:.1} s", wait.as_secs_f64()));
        self.nudge(registry);
        self.after(wait, Event::RegistryBack { registry });
    }

    pub(super) fn on_registry_back(&mut self, registry: usize) {
        self.truths[registry].condition = Condition::Up;
        self.say(Host::Registry(registry), || "answers");
        self.nudge(registry);
    }

    fn rotate(&mut self) {
        self.bundle = self.bundle.wrapping_add(1);
        for plane in 0..self.planes.len() {
            let wait = self.dice.faults.millis(0, 1_000);
            self.after(wait, Event::Rotated { plane });
        }
    }

    /// All that is wrong ends; what is about to start does.
    pub(super) fn heal(&mut self) {
        self.trace.say(self.now, &"world", || "nothing changes or goes wrong any more");
        if let Some(number) = self.partition.as_ref().map(|partition| partition.number) {
            self.on_partition_ends(number);
        }
        for registry in 0..self.truths.len() {
            self.on_registry_back(registry);
        }
        for n in 0..self.proxies.len() {
            self.set_clock(Host::Proxy(n), 0);
            self.start_proxy(n);
        }
        for n in 0..self.planes.len() {
            self.set_clock(Host::Plane(n), 0);
            self.start_plane(n);
        }
    }

    /// Every control plane restarts with what it stored: every stream is opened anew, and nothing has changed.
    pub(super) fn restart_all(&mut self) {
        self.trace.say(self.now, &"world", || "every control plane restarts");
        for plane in 0..self.planes.len() {
            self.store(plane);
            self.stop_plane(plane);
            self.after(Duration::from_secs(1), Event::PlaneStarts { plane });
        }
    }
}
