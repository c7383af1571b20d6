//! The world: everybody in it, virtual time, and who handles what happens.
//!
//! One queue of events and one thread, so that a seed is one history. Time passes only from event to event; the wall clocks
//! of hosts differ from it by what is wrong with them.

mod certificates;
mod faults;
mod network;
mod planes;
mod proxies;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use weft_proto::TrustBundle;

use crate::invariants::{Violation, converged, identity_kept, nothing_removed_used, nothing_unsubscribed};
use crate::link::Link;
use crate::plan::{Fault, Plan};
use crate::plane::Plane;
use crate::proxy::Proxy;
use crate::queue::{Event, Queue};
use crate::rng::Rng;
use crate::source::Style;
use crate::trace::Trace;
use crate::truth::{Truth, service_key};

/// Somebody with a clock, a network and a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    Proxy(usize),
    Plane(usize),
    Registry(usize),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proxy(n) => write!(f, "proxy {n}"),
            Self::Plane(n) => write!(f, "control {n}"),
            Self::Registry(n) => write!(f, "registry {n}"),
        }
    }
}

/// Randomness, apart for each purpose: with fewer proxies the registries still do the same.
pub(crate) struct Dice {
    pub(crate) script: Rng,
    pub(crate) network: Rng,
    pub(crate) faults: Rng,
    pub(crate) people: Rng,
}

/// Hosts that can't reach the others.
pub(crate) struct Partition {
    pub(crate) number: u64,
    pub(crate) apart: BTreeSet<Host>,
    pub(crate) until: Duration,
}

/// Figures of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    /// Events that happened.
    pub events: u64,
    /// Resources that proxies were sent.
    pub resources: u64,
    /// Resources that proxies refused.
    pub refused: u64,
    /// Streams that were opened.
    pub streams: u64,
    /// Certificates that were obtained.
    pub certificates: u64,
    /// Certificates that ended in use.
    pub expired: u64,
    /// Listings that the guard held back.
    pub held_back: u64,
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) trace: Trace,
    pub(crate) now: Duration,
    pub(crate) queue: Queue,
    pub(crate) dice: Dice,
    pub(crate) truths: Vec<Truth>,
    pub(crate) styles: Vec<Style>,
    pub(crate) planes: Vec<Plane>,
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) links: BTreeMap<u64, Link>,
    pub(crate) next_link: u64,
    pub(crate) partition: Option<Partition>,
    pub(crate) partitions: u64,
    pub(crate) bundle: u8,
    /// Nothing has changed since everybody held everything.
    pub(crate) idle: bool,
    pub(crate) figures: Figures,
    start: Instant,
}

/// After the last change: an emptied registry is doubted for 10 minutes (`GuardSettings`), and read every 30 s; back-off and
/// certificates to be attested take less.
const CALM: Duration = Duration::from_secs(720);
const RECONNECTED: Duration = Duration::from_secs(120);
const MORE: Duration = Duration::from_secs(3);
const TRIES: u32 = 10;

impl World {
    pub(crate) fn new(plan: Plan, trace: Trace) -> Self {
        let rng = |stream| Rng::new(plan.seed, stream);
        let mut dice = Dice { script: rng(1), network: rng(2), faults: rng(3), people: rng(4) };
        let styles = [Style::Listing, Style::ByService, Style::Changes];
        let mut world = Self {
            trace,
            now: Duration::ZERO,
            queue: Queue::default(),
            truths: (0..plan.registries).map(|n| Truth::new(n, dice.script.percent(50))).collect(),
            styles: (0..plan.registries).map(|_| styles[dice.script.below(styles.len())]).collect(),
            planes: (0..plan.planes).map(|_| Plane::new(plan.registries)).collect(),
            proxies: Vec::new(),
            links: BTreeMap::new(),
            next_link: 0,
            partition: None,
            partitions: 0,
            bundle: 0,
            idle: false,
            figures: Figures::default(),
            start: Instant::now(),
            dice,
            plan,
        };
        world.populate();
        world
    }

    fn populate(&mut self) {
        for n in 0..self.plan.proxies {
            let wanted = (0..self.plan.services).filter(|_| self.dice.people.percent(50)).map(service_key);
            let old_version = self.plan.has(Fault::Nacks) && n % 3 == 0;
            self.proxies.push(Proxy::new(n, old_version, wanted.collect()));
            let at = self.dice.people.millis(0, 3_000);
            self.queue.put(at, Event::ProxyStarts { proxy: n });
            self.queue.put(at + Duration::from_secs(5), Event::Want { proxy: n });
        }
        for plane in 0..self.planes.len() {
            let at = self.dice.people.millis(0, 2_000);
            self.queue.put(at, Event::PlaneStarts { plane });
        }
        for registry in 0..self.truths.len() {
            if self.plan.has(Fault::Slow) && self.dice.script.percent(40) {
                self.truths[registry].slow = Duration::from_secs(4);
            }
            // More than a stream that is held up can follow by the log.
            if self.dice.script.percent(2) {
                self.truths[registry].quiet = 200;
            }
            for _ in 0..12 {
                self.script(registry);
            }
            self.queue.put(Duration::from_secs(1), Event::Script { registry });
        }
        for fault in self.plan.faults.clone() {
            let at = self.dice.faults.millis(0, 40_000);
            self.queue.put(at, Event::Fault(fault));
        }
    }

    /// Runs the plan, and then the same streams again.
    pub(crate) fn run(&mut self) -> Result<(), Violation> {
        self.until(self.plan.chaos)?;
        self.heal();
        self.comes_to_rest(CALM)?;
        self.idle = true;
        self.restart_all();
        self.comes_to_rest(RECONNECTED)
    }

    /// A stream may end with its certificate, or a proxy may renew, in the very moment: then a little later.
    fn comes_to_rest(&mut self, within: Duration) -> Result<(), Violation> {
        let end = self.now + within;
        self.until(end)?;
        for more in 1..TRIES {
            if self.at_rest().is_ok() {
                return Ok(());
            }
            self.until(end + MORE * more)?;
        }
        self.at_rest()
    }

    fn until(&mut self, end: Duration) -> Result<(), Violation> {
        while let Some((at, event)) = self.queue.take(end) {
            self.now = at;
            self.figures.events += 1;
            self.handle(event)?;
        }
        self.now = end;
        Ok(())
    }

    fn handle(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Script { registry } => self.on_script(registry),
            Event::Read { plane, run, registry } => self.on_read(plane, run, registry),
            Event::Deliver { plane, run, registry, read } => self.on_deliver(plane, run, registry, read),
            Event::Supervise { plane, run, registry } => self.on_supervise(plane, run, registry),
            Event::Publish { plane, run } => self.on_publish(plane, run),
            Event::Store { plane, run } => self.on_store(plane, run),
            Event::Overdue { plane, run } => self.on_overdue(plane, run),
            Event::PlaneStarts { plane } => self.start_plane(plane),
            Event::Rotated { plane } => self.on_rotated(plane),
            Event::ProxyStarts { proxy } => self.start_proxy(proxy),
            Event::Connect { proxy, run } => self.on_connect(proxy, run),
            Event::NotConnected { proxy, run, since } => self.on_not_connected(proxy, run, since),
            Event::ToPlane { link, bytes } => self.on_to_plane(link, bytes),
            Event::ToProxy { link, message } => return self.on_to_proxy(link, message),
            Event::ProxyLoses { link } => self.on_proxy_loses(link),
            Event::PlaneLoses { link } => self.on_plane_loses(link),
            Event::Unanswered { link, partition } => self.on_unanswered(link, partition),
            Event::Lapse { link } => self.break_link(link, "its certificate has expired"),
            Event::Keep { proxy, run } => self.on_keep(proxy, run),
            Event::Apply { proxy, run, plane, left } => self.on_apply(proxy, run, plane, left),
            Event::Issued { proxy, run, leaf } => self.on_issued(proxy, run, leaf),
            Event::LeafEnds { proxy, leaf } => return self.on_leaf_ends(proxy, &leaf),
            Event::Want { proxy } => return self.on_want(proxy),
            Event::Save { proxy, run } => self.on_save(proxy, run),
            Event::Fault(fault) => self.on_fault(fault),
            Event::RegistryBack { registry } => self.on_registry_back(registry),
            Event::PartitionEnds { partition } => self.on_partition_ends(partition),
            Event::ClockRight { host } => self.set_clock(host, 0),
        }
        Ok(())
    }

    /// What holds once everything has come to rest.
    fn at_rest(&mut self) -> Result<(), Violation> {
        let bundles = bundles(self.bundle);
        let expected = converged::expected(&self.truths, &bundles);
        for (n, proxy) in self.proxies.iter_mut().enumerate() {
            let named = |violation: Violation| Violation {
                what: format!("proxy {n}: {}", violation.what),
                ..violation
            };
            proxy.count_held();
            let stream = proxy.link.and_then(|link| self.links.get(&link)).map(|link| &link.stream);
            converged::check(proxy, stream, &expected, &bundles).map_err(named)?;
            nothing_unsubscribed::check(proxy).map_err(named)?;
            nothing_removed_used::check(proxy).map_err(named)?;
            let wall = SystemTime::UNIX_EPOCH + EPOCH + self.now;
            identity_kept::check_valid(proxy, wall).map_err(named)?;
            if let Some(stream) = stream {
                nothing_unsubscribed::check_stream(proxy, stream).map_err(named)?;
            }
        }
        Ok(())
    }

    pub(crate) fn say<T: fmt::Display>(&self, who: Host, what: impl FnOnce() -> T) {
        self.trace.say(self.now, &who, what);
    }

    /// The clock that nobody sets.
    pub(crate) fn instant(&self) -> Instant {
        self.start + self.now
    }

    /// The wall clock of a host.
    pub(crate) fn wall(&self, host: Host) -> SystemTime {
        let wrong = match host {
            Host::Proxy(n) => self.proxies[n].wall,
            Host::Plane(n) => self.planes[n].wall,
            Host::Registry(_) => 0,
        };
        let right = SystemTime::UNIX_EPOCH + EPOCH + self.now;
        let by = Duration::from_secs(wrong.unsigned_abs());
        if wrong < 0 { right - by } else { right + by }
    }

    /// Whether two hosts can't reach each other now.
    pub(crate) fn blocked(&self, one: Host, other: Host) -> bool {
        self.partition.as_ref().is_some_and(|now| now.apart.contains(&one) != now.apart.contains(&other))
    }

    pub(crate) fn after(&mut self, wait: Duration, event: Event) {
        self.queue.put(self.now + wait, event);
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.now >= self.plan.chaos
    }
}

/// The trust bundles of a rotation.
pub(crate) fn bundles(rotation: u8) -> Vec<TrustBundle> {
    let roots = vec![vec![0x30, rotation].into()];
    vec![TrustBundle { trust_domain: "mesh.test".parse().expect("a legal name"), roots }]
}

/// When the world begins, on a right clock: in 2027.
const EPOCH: Duration = Duration::from_secs(1_800_000_000);

/// The moment that a right clock calls `wall`.
pub(crate) fn moment_of(wall: SystemTime) -> Duration {
    wall.duration_since(SystemTime::UNIX_EPOCH + EPOCH).unwrap_or_default()
}
