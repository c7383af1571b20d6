//! A proxy: the real client, the real reconnect pauses, the real keeping of its certificate; and what it would route to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use weft_identity::{Keeping, RenewalSchedule};
use weft_model::{InstanceId, ServiceKey};
use weft_proto::discovery::Resource;
use weft_proto::{ResourceType, TrustBundle};
use weft_xds_client::{Client, Members, Reconnect, Update};

use crate::leaf::Leaf;
use crate::truth::works_for;

/// A proxy, running or not.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// The number of its process.
    pub(crate) run: u64,
    pub(crate) up: bool,
    pub(crate) client: Client,
    pub(crate) reconnect: Reconnect,
    pub(crate) link: Option<u64>,
    pub(crate) keeping: Keeping,
    pub(crate) leaf: Option<Leaf>,
    /// What its wall clock adds to the right time, in seconds.
    pub(crate) wall: i64,
    /// It does not understand everything.
    pub(crate) old_version: bool,
    /// What its users want, whatever process it is.
    pub(crate) wanted: BTreeSet<ServiceKey>,
    /// What it routes to; `None`: there is none.
    pub(crate) view: BTreeMap<ServiceKey, Option<Members>>,
    pub(crate) bundles: Option<Vec<TrustBundle>>,
    /// On its disk.
    pub(crate) saved: Vec<Resource>,
    pub(crate) saving: bool,
    /// What it has told us that it holds, and refuses.
    pub(crate) held: HashMap<(ResourceType, String), String>,
    pub(crate) refused: BTreeSet<(ResourceType, String)>,
    /// The services that it gave up on this stream, also where it wants them again.
    pub(crate) given_up: BTreeSet<ServiceKey>,
    /// Instances that it has acknowledged to take nothing new.
    pub(crate) gone: BTreeSet<InstanceId>,
    /// From when to when a control plane could have issued.
    pub(crate) reachable: Vec<(Duration, Option<Duration>)>,
}

impl Proxy {
    pub(crate) fn new(n: usize, old_version: bool, wanted: BTreeSet<ServiceKey>) -> Self {
        Self {
            run: 0,
            up: false,
            client: client(n),
            reconnect: Reconnect::new(1, 0),
            link: None,
            keeping: Keeping::default(),
            leaf: None,
            wall: 0,
            old_version,
            wanted,
            view: BTreeMap::new(),
            bundles: None,
            saved: Vec::new(),
            saving: false,
            held: HashMap::new(),
            refused: BTreeSet::new(),
            given_up: BTreeSet::new(),
            gone: BTreeSet::new(),
            reachable: Vec::new(),
        }
    }

    /// A new process, with what is on its disk.
    pub(crate) fn start(&mut self, n: usize, planes: usize, seed: u64, chance: f64) {
        self.run += 1;
        self.up = true;
        self.client = client(n);
        self.reconnect = Reconnect::new(planes, seed);
        self.keeping = Keeping::default();
        if let Some(leaf) = self.leaf {
            let schedule = RenewalSchedule::new(leaf.not_before, leaf.not_after, chance);
            self.keeping.obtained(leaf.not_before, schedule);
        }
        self.view.clear();
        self.bundles = None;
        self.refused.clear();
        self.given_up.clear();
        self.gone.clear();
        self.saving = false;
        let (updates, _) = self.client.restore(self.saved.clone());
        let restored: BTreeSet<ServiceKey> = updates.iter().filter_map(present).cloned().collect();
        for update in updates {
            // Absence is asked for anew.
            if !matches!(update, Update::ServiceAbsent(_)) {
                self.update(update);
            }
        }
        // No stream is open: the first requests say all of it.
        for key in restored.difference(&self.wanted) {
            self.client.unsubscribe(key);
            self.view.remove(key);
        }
        for key in &self.wanted {
            self.client.subscribe(key.clone());
        }
        self.count_held();
    }

    /// Takes over an update. Returns what could be used before and can't now.
    pub(crate) fn update(&mut self, update: Update) -> BTreeSet<(ServiceKey, InstanceId)> {
        let (key, now) = match update {
            Update::Bundles(bundles) => {
                self.bundles = Some(bundles);
                return BTreeSet::new();
            }
            Update::ServicePresent { service, workloads } => (service.key.clone(), Some(workloads)),
            Update::ServiceAbsent(key) => (key, None),
            // No proxy of this world captures; an answer that nobody asked for is told as held, and fails there.
            Update::AddressOwned(_) | Update::AddressFree(_) => return BTreeSet::new(),
        };
        let usable = |workloads: Option<&Members>| -> BTreeSet<(ServiceKey, InstanceId)> {
            let used =
                workloads.into_iter().flat_map(Members::values).filter(|one| works_for(one).contains(&key));
            used.map(|one| (key.clone(), one.id.clone())).collect()
        };
        let before = usable(self.view.get(&key).and_then(Option::as_ref));
        let after = usable(now.as_ref());
        self.view.insert(key.clone(), now);
        before.difference(&after).cloned().collect()
    }

    /// Whether a resource is of what it wants; an answer to what it gave up meanwhile is not kept.
    pub(crate) fn takes(&self, kind: ResourceType, resource: &Resource) -> bool {
        kind == ResourceType::TrustBundle || is_of(&self.wanted, kind, resource)
    }

    /// Asks the client what it holds.
    pub(crate) fn count_held(&mut self) {
        let kind = |resource: &Resource| {
            ResourceType::from_url(resource.resource.as_ref().map_or("", |body| body.type_url.as_str()))
        };
        let held = self.client.held().into_iter();
        self.held = held.filter_map(|one| Some(((kind(&one)?, one.name.clone()), one.version))).collect();
    }
}

/// Whether a resource is one of `services`, or an instance of one.
pub(crate) fn is_of(services: &BTreeSet<ServiceKey>, kind: ResourceType, resource: &Resource) -> bool {
    let body = || resource.resource.as_ref().map(|body| body.value.clone()).unwrap_or_default();
    match kind {
        ResourceType::TrustBundle | ResourceType::Address => false,
        ResourceType::Service => resource.name.parse().is_ok_and(|key| services.contains(&key)),
        ResourceType::Workload => weft_proto::workload(&resource.name, body())
            .is_ok_and(|one| one.services.keys().any(|key| services.contains(key))),
    }
}

fn client(n: usize) -> Client {
    Client::new(&format!("spiffe://mesh.test/ns/default/sa/web~web-{n}"), "weft-proxy/sim")
}

fn present(update: &Update) -> Option<&ServiceKey> {
    match update {
        Update::ServicePresent { service, .. } => Some(&service.key),
        Update::ServiceAbsent(_) | Update::Bundles(_) | Update::AddressOwned(_) | Update::AddressFree(_) => {
            None
        }
    }
}
