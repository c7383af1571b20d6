//! One port of one service as one upstream sees it: its targets, who of them is next, and what it may retry.
//!
//! The targets are rebuilt when the service's `Arc` in the configuration is another one; memories move over by instance
//! and addresses. Draining endpoints get nothing new. When nobody takes new work, the unhealthy ones are tried all the
//! same (panic mode): a health check that lies must not be an outage. Endpoints without weight or a way to reach them
//! are never used.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_model::{Health, InstanceId, NetworkAddress, Prefer, Protocol, ServiceKey};

use crate::balance::budget::{BudgetPolicy, RetryBudget};
use crate::balance::near;
use crate::balance::outlier::OutlierPolicy;
use crate::balance::target::{Memory, Target, Unusable, Via};
use crate::balance::tiers::Tier;
use crate::config::{Endpoint, EndpointPort, ServiceConfig};
use crate::http::failure::Failure;
use crate::place::Place;
use crate::record::{Destination, ResponseFlag};
use crate::route::{self, ChosenPort};
use crate::settings::PortRef;

/// What an upstream wants of a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Wanted {
    pub(crate) service: ServiceKey,
    /// The instance that has this address, instead of any of the service's.
    pub(crate) at: Option<NetworkAddress>,
    pub(crate) port: Option<PortRef>,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) plaintext: bool,
}

impl Wanted {
    /// A port that nobody registered: an instance that is called by its own address has it all the same, if its proxy
    /// takes every port and there is no question which instance is meant.
    fn unregistered(&self, service: &ServiceConfig) -> Option<EndpointPort> {
        match (&self.at, &self.port, service.endpoints.as_slice()) {
            (Some(_), Some(PortRef::Number(number)), [only]) if only.captured => {
                Some(EndpointPort { name: None, number: *number, protocol: Protocol::Detect })
            }
            _ => None,
        }
    }
}

/// The rules, the same for all services of a proxy.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    pub(crate) outlier: OutlierPolicy,
    pub(crate) budget: BudgetPolicy,
    /// Attempts beyond the first.
    pub(crate) retries: u32,
    /// Near endpoints are preferred where the service says nothing of it.
    pub(crate) near: bool,
}

/// The state of one worker for one [`Wanted`].
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) wanted: Wanted,
    pub(crate) policy: Rc<Policy>,
    view: RefCell<View>,
    budget: RefCell<RetryBudget>,
    used: Cell<Instant>,
    /// The configuration's revision that `view` was last compared with, and when.
    followed: Cell<Option<(u64, Instant)>>,
    /// As last told to the gauge.
    told_ejected: Cell<usize>,
}

#[derive(Debug)]
struct View {
    config: Option<Arc<ServiceConfig>>,
    place: Arc<Place>,
    expected: Protocol,
    /// The service has the wanted port.
    has_port: bool,
    targets: Vec<Rc<Target>>,
    /// Those that take new work, the best tier first.
    tiers: Vec<Tier>,
    /// Those that are only used when there is no tier.
    panic: Tier,
    unusable: Vec<Unusable>,
}

/// How an attempt ended, for the endpoint's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It answered as an endpoint does that is there.
    Good,
    /// It did not: no connection, a broken one, or a gateway's failure.
    Bad,
}

impl Cluster {
    /// Knows nothing yet.
    pub(crate) fn new(wanted: Wanted, policy: Rc<Policy>, now: Instant) -> Self {
        let budget = RefCell::new(RetryBudget::new(policy.budget, now));
        Self {
            wanted,
            policy,
            view: RefCell::new(View::empty()),
            budget,
            used: Cell::new(now),
            followed: Cell::new(None),
            told_ejected: Cell::new(0),
        }
    }

    /// The service, if this has followed the configuration of this very revision a moment ago: nothing to look up then.
    pub(crate) fn current(&self, revision: u64, now: Instant) -> Option<Arc<ServiceConfig>> {
        let (followed, at) = self.followed.get()?;
        if followed != revision || now.saturating_duration_since(at) >= TRUST {
            return None;
        }
        self.used.set(now);
        self.view.borrow().config.clone()
    }

    /// Follows the configuration: call it with what is current before every use. Costs one comparison when nothing changed.
    pub(crate) fn follow(
        &self,
        service: &Arc<ServiceConfig>,
        place: &Arc<Place>,
        revision: u64,
        now: Instant,
    ) {
        self.used.set(now);
        self.followed.set(Some((revision, now)));
        let mut view = self.view.borrow_mut();
        let is_same = view.config.as_ref().is_some_and(|known| Arc::ptr_eq(known, service));
        if !is_same || !Arc::ptr_eq(&view.place, place) {
            let old = std::mem::take(&mut view.targets);
            *view = View::build(&self.wanted, &self.policy, service, place, old);
        }
    }

    /// When it was last used.
    pub(crate) fn last_used(&self) -> Instant {
        self.used.get()
    }

    /// What callers will speak.
    pub(crate) fn expected_protocol(&self) -> Protocol {
        self.view.borrow().expected
    }

    /// Picks a target. `tried` are those that failed this request already: they come last.
    pub(crate) fn pick(&self, tried: &[Rc<Target>], now: Instant) -> Result<Rc<Target>, Failure> {
        let view = self.view.borrow();
        if !view.has_port {
            return Err(Failure::unsent(ResponseFlag::NoRoute, self.no_port()));
        }
        let fresh =
            |target: &Rc<Target>| !tried.iter().any(|other| Rc::ptr_eq(&other.memory, &target.memory));
        let sound = |target: &Rc<Target>| !target.memory.is_out(now);
        let tiers = || view.tiers.iter();
        tiers()
            .find_map(|tier| view.best(tier, now, |target| fresh(target) && sound(target)))
            .or_else(|| tiers().find_map(|tier| view.best(tier, now, fresh)))
            .or_else(|| view.best(&view.panic, now, fresh).filter(|_| view.tiers.is_empty()))
            .or_else(|| tiers().find_map(|tier| view.best(tier, now, |_| true)))
            .or_else(|| view.best(&view.panic, now, |_| true).filter(|_| view.tiers.is_empty()))
            .ok_or_else(|| self.nobody(&view))
    }

    /// Whether somebody else than `target` can be expected to answer.
    pub(crate) fn has_other(&self, target: &Target, now: Instant) -> bool {
        let view = self.view.borrow();
        let other = |index: &usize| {
            view.targets
                .get(*index)
                .is_some_and(|other| !Rc::ptr_eq(&other.memory, &target.memory) && !other.memory.is_out(now))
        };
        view.tiers.iter().flat_map(Tier::members).any(other)
    }

    /// Counts a new request for the retry budget.
    pub(crate) fn requested(&self, now: Instant) {
        self.budget.borrow_mut().deposit(now);
    }

    /// Whether the budget has one more retry.
    pub(crate) fn may_retry(&self, now: Instant) -> bool {
        self.budget.borrow_mut().withdraw(now)
    }

    /// Takes note of how an attempt ended. True: the endpoint was ejected for it.
    pub(crate) fn note(&self, target: &Target, outcome: Outcome, now: Instant) -> bool {
        let due = match outcome {
            Outcome::Good => {
                target.memory.outlier().borrow_mut().succeeded(now);
                false
            }
            Outcome::Bad => target.memory.outlier().borrow_mut().failed(&self.policy.outlier, now),
        };
        let eject =
            due && self.ejected(now) < self.policy.outlier.most_ejected(self.view.borrow().targets.len());
        if eject {
            target.memory.outlier().borrow_mut().eject(&self.policy.outlier, now);
        }
        eject
    }

    /// How many targets are ejected now.
    pub(crate) fn ejected(&self, now: Instant) -> usize {
        self.view.borrow().targets.iter().filter(|target| target.memory.is_ejected(now)).count()
    }

    /// The number of targets that are ejected or not heard when this was last asked, and now.
    pub(crate) fn count_out(&self, now: Instant) -> (usize, usize) {
        let ejected = self.view.borrow().targets.iter().filter(|target| target.memory.is_out(now)).count();
        (self.told_ejected.replace(ejected), ejected)
    }

    fn no_port(&self) -> String {
        let port = match &self.wanted.port {
            Some(PortRef::Name(name)) => name.to_string(),
            Some(PortRef::Number(number) | PortRef::Called(number)) => number.to_string(),
            None => "at all".to_owned(),
        };
        format!("service {} has no port {port}", self.wanted.service)
    }

    fn nobody(&self, view: &View) -> Failure {
        let endpoints = view.config.as_ref().map_or(&[][..], |config| &config.endpoints);
        let count = |reason: Unusable| view.unusable.iter().filter(|other| **other == reason).count();
        let with = |health: Health| endpoints.iter().filter(|endpoint| endpoint.health == health).count();
        let elsewhere = count(Unusable::OtherNode);
        let mut reasons = String::new();
        for (number, words) in [
            (
                count(Unusable::OutsideTheMesh),
                "outside the mesh (no proxy, and plaintext is not allowed here)",
            ),
            (count(Unusable::NoIdentity), "without an identity"),
            (count(Unusable::NoPort), "without this port"),
            (elsewhere, elsewhere_words(view)),
            (with(Health::Draining), "draining"),
            (endpoints.iter().filter(|endpoint| endpoint.weight == 0).count(), "with weight 0"),
        ] {
            if number > 0 {
                reasons.push_str(&format!(", {number} {words}"));
            }
        }
        let anonymous = !view.unusable.is_empty() && count(Unusable::NoIdentity) == endpoints.len();
        let flag = match anonymous {
            true => ResponseFlag::UpstreamIdentity,
            false if elsewhere > 0 => ResponseFlag::NoLocalEndpoint,
            false => ResponseFlag::NoHealthyUpstream,
        };
        let detail = format!(
            "service {} has {} endpoints, none to use{reasons}",
            self.wanted.service,
            endpoints.len()
        );
        Failure::unsent(flag, detail)
    }
}

impl View {
    fn empty() -> Self {
        Self {
            config: None,
            place: Arc::default(),
            expected: Protocol::Detect,
            has_port: true,
            targets: Vec::new(),
            tiers: Vec::new(),
            panic: Tier::default(),
            unusable: Vec::new(),
        }
    }

    fn build(
        wanted: &Wanted,
        policy: &Policy,
        service: &Arc<ServiceConfig>,
        place: &Arc<Place>,
        old: Vec<Rc<Target>>,
    ) -> Self {
        let unregistered = wanted.unregistered(service);
        let chosen = route::choose_port(service, wanted.port.as_ref())
            .or_else(|| unregistered.is_some().then(|| ChosenPort::unregistered(wanted.port.clone())));
        let mut view = Self {
            config: Some(service.clone()),
            place: place.clone(),
            has_port: chosen.is_some(),
            ..Self::empty()
        };
        let Some(chosen) = chosen else { return view };
        view.expected = route::expected_protocol(wanted.protocol, service, &chosen);
        let mut memories: HashMap<(InstanceId, Vec<IpAddr>, u16), Rc<Memory>> = old
            .into_iter()
            .map(|target| {
                let endpoint = &target.endpoint;
                ((endpoint.id.clone(), endpoint.addresses.clone(), target.port.number), target.memory.clone())
            })
            .collect();
        for endpoint in &service.endpoints {
            if !near::is_allowed(service.prefer, place, endpoint) {
                view.unusable.push(Unusable::OtherNode);
                continue;
            }
            match target(wanted, service, endpoint, &chosen, |key| memories.remove(&key).unwrap_or_default())
            {
                Ok(target) => view.targets.push(Rc::new(target)),
                Err(reason) => view.unusable.push(reason),
            }
        }
        view.sort(service.prefer, policy.near);
        view
    }

    fn sort(&mut self, prefer: Option<Prefer>, by_setting: bool) {
        let weighted = |pass: &dyn Fn(&Endpoint) -> bool| {
            let all = self.targets.iter().enumerate().filter(|(_, target)| pass(&target.endpoint));
            Tier::new(all.map(|(index, target)| (index, target.endpoint.weight)))
        };
        let ready = |endpoint: &Endpoint| endpoint.health.takes_new_work();
        let level = |endpoint: &Endpoint| near::level(prefer, by_setting, &self.place, endpoint);
        let tier = |wanted: u8| weighted(&|endpoint| ready(endpoint) && level(endpoint) == wanted);
        let tiers: Vec<Tier> = (0..=near::NEAREST).rev().map(tier).collect();
        let panic = weighted(&|endpoint| endpoint.health == Health::Unhealthy);
        self.tiers = tiers.into_iter().filter(|tier| !tier.members().is_empty()).collect();
        self.panic = panic;
    }

    /// The cheaper of two that pass; looks at all of them only when chance finds nobody.
    fn best(&self, tier: &Tier, now: Instant, pass: impl Fn(&Rc<Target>) -> bool) -> Option<Rc<Target>> {
        let get = |index: usize| self.targets.get(index).filter(|target| pass(target));
        for _ in 0..DRAWS {
            let (one, other) = tier.draw(|below| rand::random_range(0..below.max(1)))?;
            let cheaper = match (get(one), get(other)) {
                (Some(one), Some(other)) if other.memory.cost(now) < one.memory.cost(now) => Some(other),
                (Some(one), _) => Some(one),
                (None, other) => other,
            };
            if let Some(found) = cheaper {
                return Some(found.clone());
            }
        }
        let all = tier.members().iter().filter_map(|index| get(*index));
        all.min_by(|one, other| one.memory.cost(now).total_cmp(&other.memory.cost(now))).cloned()
    }
}

fn target(
    wanted: &Wanted,
    service: &ServiceConfig,
    endpoint: &Arc<Endpoint>,
    chosen: &ChosenPort,
    memory: impl FnOnce((InstanceId, Vec<IpAddr>, u16)) -> Rc<Memory>,
) -> Result<Target, Unusable> {
    let port = chosen.on(endpoint).cloned().or_else(|| wanted.unregistered(service));
    let port = port.ok_or(Unusable::NoPort)?;
    let via = Via::of(endpoint, port.number, wanted.plaintext)?;
    let destination = Destination {
        service: service.key.clone(),
        workload: Some(endpoint.id.clone()),
        identity: endpoint.identity.clone(),
        app: endpoint.app.clone(),
        version: endpoint.version.clone(),
    };
    Ok(Target {
        protocol: route::protocol(wanted.protocol, &port, chosen),
        via,
        destination: Arc::new(destination),
        memory: memory((endpoint.id.clone(), endpoint.addresses.clone(), port.number)),
        port,
        endpoint: endpoint.clone(),
        pool: OnceCell::new(),
    })
}

fn elsewhere_words(view: &View) -> &'static str {
    match view.place.node {
        Some(_) => "on other nodes than this proxy's, and its callers may not leave their node",
        None => "on some node, and its callers may not leave theirs: this proxy's own is not known",
    }
}

/// How long a service is not looked up again while the revision stays: the look-up is also what notes that it is used.
const TRUST: Duration = Duration::from_secs(1);
/// Draws before all are looked at. With half of the endpoints out three draws of two fail once in 64 times.
const DRAWS: usize = 3;

#[cfg(test)]
mod tests;
