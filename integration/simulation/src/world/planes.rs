//! What control planes and registries do: reading, applying, publishing, storing, starting.

use std::time::{Duration, UNIX_EPOCH};

use tokio::time::Instant;
use weft_registry::UnixMillis;

use super::{Host, World, bundles};
use crate::plane::Stored;
use crate::queue::Event;
use crate::source::Read;
use crate::truth::{Condition, service_key};

/// `ready.registry_deadline`.
const OVERDUE: Duration = Duration::from_secs(10);
/// What changed is stored so much later.
const STORED_AFTER: Duration = Duration::from_secs(5);

impl World {
    pub(super) fn on_script(&mut self, registry: usize) {
        if self.is_calm() {
            return;
        }
        self.script(registry);
        self.nudge(registry);
        let quiet = self.truths[registry].quiet;
        let wait = self.dice.script.millis(20, quiet);
        self.after(wait, Event::Script { registry });
    }

    /// A registry changes, or hands a service over to another one.
    pub(super) fn script(&mut self, registry: usize) {
        let (services, now) = (self.plan.services, self.now);
        let rng = &mut self.dice.script;
        let to = rng.below(self.truths.len());
        let move_service = rng.percent(5).then(|| service_key(rng.below(services)));
        let nacks = self.plan.has(crate::plan::Fault::Nacks);
        let what = match move_service.filter(|_| to != registry) {
            None => self.truths[registry].change(now, services, nacks, rng),
            Some(key) => {
                let [from, to] = self.truths.get_disjoint_mut([registry, to]).expect("two registries");
                let moved = from.hand_over(now, &key, to);
                let what = format!("{key} moves to {} with {} instances", to.id, moved.len());
                moved.into_iter().for_each(|workload| to.put(now, workload));
                what
            }
        };
        self.say(Host::Registry(registry), || what);
        if to != registry {
            self.nudge(to);
        }
    }

    /// Wakes the adapters that watch a registry. One that waits for its next try reads then; one that reads now does so once
    /// more.
    pub(super) fn nudge(&mut self, registry: usize) {
        for plane in 0..self.planes.len() {
            let run = self.planes[plane].run;
            let Some(running) = &self.planes[plane].running else { continue };
            let source = &running.sources[registry];
            if source.reading || !source.failing {
                let wait = self.dice.network.millis(0, 50);
                self.after(wait, Event::Read { plane, run, registry });
            }
        }
    }

    pub(super) fn start_plane(&mut self, plane: usize) {
        if self.planes[plane].running.is_some() {
            return;
        }
        let now = self.instant();
        let wall = self.unix_millis(plane);
        let bundle = self.bundle;
        let it = &mut self.planes[plane];
        it.start(&self.truths, &self.styles, now, wall);
        it.bundle = bundle;
        let run = it.run;
        self.say(Host::Plane(plane), || format!("starts (process {run})"));
        for registry in 0..self.truths.len() {
            self.drain(plane, registry);
            self.after(Duration::from_millis(5), Event::Read { plane, run, registry });
        }
        self.publish(plane, true);
        self.after(OVERDUE, Event::Overdue { plane, run });
        self.note_reachable();
    }

    fn unix_millis(&self, plane: usize) -> UnixMillis {
        let since = self.wall(Host::Plane(plane)).duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn is_run(&self, plane: usize, run: u64) -> bool {
        self.planes[plane].run == run && self.planes[plane].running.is_some()
    }

    pub(super) fn on_read(&mut self, plane: usize, run: u64, registry: usize) {
        if !self.is_run(plane, run) {
            return;
        }
        let blocked = self.blocked(Host::Plane(plane), Host::Registry(registry));
        let truth = &self.truths[registry];
        let Some(running) = &mut self.planes[plane].running else { return };
        let condition = if blocked { Condition::Down } else { running.condition(registry, truth) };
        let source = &mut running.sources[registry];
        if source.reading {
            source.again = true;
            return;
        }
        source.reading = true;
        let read = source.read(truth, condition, self.now);
        let slow = truth.slow.as_millis() as u64;
        let wait = self.dice.network.millis(1, slow);
        self.after(wait, Event::Deliver { plane, run, registry, read });
    }

    pub(super) fn on_deliver(&mut self, plane: usize, run: u64, registry: usize, read: Read) {
        if !self.is_run(plane, run) {
            return;
        }
        let (now, wall) = (self.instant(), self.unix_millis(plane));
        let jitter = self.dice.network.unit();
        let Some(running) = &mut self.planes[plane].running else { return };
        let source = &mut running.sources[registry];
        let items = source.arrived(read);
        let said: Vec<String> = items.iter().map(brief).collect();
        for item in items {
            source.supervision.on_item(item, Instant::from_std(now), wall);
        }
        let again = std::mem::take(&mut source.again);
        let wait = match source.failing {
            true => Some(source.backoff.next_delay_with(jitter)),
            false => again.then_some(Duration::from_millis(1)),
        };
        if let Some(wait) = wait {
            self.after(wait, Event::Read { plane, run, registry });
        }
        self.say(Host::Plane(plane), || format!("hears of registry {registry}: {}", said.join(", ")));
        self.drain(plane, registry);
        self.settle(plane);
    }

    pub(super) fn on_supervise(&mut self, plane: usize, run: u64, registry: usize) {
        if !self.is_run(plane, run) {
            return;
        }
        let now = Instant::from_std(self.instant());
        let Some(running) = &mut self.planes[plane].running else { return };
        let source = &mut running.sources[registry];
        source.wake = None;
        if source.supervision.on_due(now) {
            source.whole = true;
            let failing = source.failing;
            self.say(Host::Plane(plane), || format!("asks for a second reading of registry {registry}"));
            if !failing {
                self.after(Duration::ZERO, Event::Read { plane, run, registry });
            }
        }
        self.drain(plane, registry);
        self.settle(plane);
    }

    /// Takes what supervision yields, and looks when it wants to be asked next.
    fn drain(&mut self, plane: usize, registry: usize) {
        let (now, run) = (self.instant(), self.planes[plane].run);
        let Some(running) = &mut self.planes[plane].running else { return };
        let (stored, doubted) = (running.behind.is_empty(), running.sources[registry].freshness.held_reset);
        running.take(registry, now);
        let source = &mut running.sources[registry];
        self.figures.held_back += u64::from(doubted.is_none() && source.freshness.held_reset.is_some());
        let store = stored && !running.behind.is_empty();
        let due = source.supervision.due().map(|due| due.into_std());
        let due = due.map(|due| due.saturating_duration_since(self.start).max(self.now));
        let earlier = due.filter(|due| source.wake.is_none_or(|wake| *due < wake));
        if let Some(due) = earlier {
            source.wake = Some(due);
            self.queue.put(due, Event::Supervise { plane, run, registry });
        }
        if store {
            self.after(STORED_AFTER, Event::Store { plane, run });
        }
    }

    /// Publishes what is due, and serves once it may.
    fn settle(&mut self, plane: usize) {
        self.publish(plane, false);
        let Some(running) = &mut self.planes[plane].running else { return };
        if !running.serving && running.is_ready(&self.truths) {
            running.serving = true;
            let complete = running.ingestion.published().is_complete();
            self.say(Host::Plane(plane), || format!("serves; has heard everything: {complete}"));
            self.serve_waiting(plane);
        }
    }

    pub(super) fn on_overdue(&mut self, plane: usize, run: u64) {
        if self.is_run(plane, run)
            && let Some(running) = &mut self.planes[plane].running
        {
            running.overdue = true;
            self.settle(plane);
        }
    }

    pub(super) fn on_publish(&mut self, plane: usize, run: u64) {
        if self.is_run(plane, run)
            && let Some(running) = &mut self.planes[plane].running
        {
            running.wake = None;
            self.publish(plane, false);
        }
    }

    pub(super) fn publish(&mut self, plane: usize, at_once: bool) {
        let now = self.instant();
        let (bundle, run) = (self.planes[plane].bundle, self.planes[plane].run);
        let Some(running) = &mut self.planes[plane].running else { return };
        let published = running.ingestion.publish(at_once, now, || bundles(bundle)).is_some();
        if published {
            running.shown = running.sources.iter().map(|source| source.of).collect();
        }
        let due = running.ingestion.due().map(|due| due.saturating_duration_since(self.start).max(self.now));
        let due = due.filter(|due| running.wake.is_none_or(|wake| *due < wake));
        if let Some(due) = due {
            running.wake = Some(due);
            self.queue.put(due, Event::Publish { plane, run });
        }
        if published {
            self.send_published(plane);
        }
    }

    pub(super) fn on_rotated(&mut self, plane: usize) {
        self.planes[plane].bundle = self.bundle;
        self.publish(plane, true);
    }

    pub(super) fn on_store(&mut self, plane: usize, run: u64) {
        if self.is_run(plane, run) {
            self.store(plane);
        }
    }

    pub(super) fn store(&mut self, plane: usize) {
        let it = &mut self.planes[plane];
        let Some(running) = &mut it.running else { return };
        for registry in std::mem::take(&mut running.behind) {
            let entries = running.ingestion.catalog().entries(&self.truths[registry].id);
            let stored = Stored { entries, of: running.sources[registry].of };
            it.older[registry] = it.files[registry].replace(stored);
        }
    }
}

fn brief(item: &Result<weft_model::RegistryEvent, weft_registry::RegistryError>) -> String {
    use weft_model::{RegistryEvent, Scope};
    match item {
        Ok(RegistryEvent::Reset { scope: Scope::All, entries }) => {
            format!("all it has, {} entries", entries.len())
        }
        Ok(RegistryEvent::Reset { scope: Scope::Services(keys), entries }) => {
            let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
            format!("all of {}, {} entries", keys.join(" "), entries.len())
        }
        Ok(RegistryEvent::Upsert(entries)) => format!("{} are there", entries.len()),
        Ok(RegistryEvent::Remove(keys)) => format!("{} are gone", keys.len()),
        Err(error) => error.to_string(),
    }
}
