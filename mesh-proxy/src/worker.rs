//! One thread of the data path: its runtime, its state, its listeners, and its end.
//!
//! Nothing here is shared with other workers but [`Shared`]: pools, balancers and counters of open connections are this
//! thread's own, so that no request takes a lock. Tasks live in the thread's own runtime and end with it.
//! Draining closes inbound first and outbound when inbound is done: the application may need to call others to finish.

mod accept;
mod admission;
mod handshakes;
mod relief;
mod told;
mod tracker;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use tokio::net::TcpListener;
use tokio::runtime::LocalOptions;
use tokio::time::Instant;
use weft_model::{Namespace, NetworkAddress, SpiffeId};

pub(crate) use accept::accept;
pub(crate) use admission::Place;
pub(crate) use handshakes::Handshakes;
pub(crate) use tracker::{Guard, Tracker};

use crate::balance::budget::BudgetPolicy;
use crate::balance::cluster::{Cluster, Policy, Wanted};
use crate::balance::outlier::OutlierPolicy;
use crate::config::{Owner, ProxyConfig};
use crate::demand::Answer;
use crate::http::call::Ledger;
use crate::http::failure::Failure;
use crate::http::serve::Server;
use crate::pool::{Dialer, Pools};
use crate::record::{Record, ResponseFlag};
use crate::settings::Settings;
use crate::shared::{Phase, Shared, Sockets};
use crate::telemetry::{Level, Message};
use crate::{inbound, outbound, vanish};

/// How often connections and services that nobody uses are looked for.
const SWEEP: Duration = Duration::from_secs(5);
/// A service's state on a worker that no request used for so long is forgotten.
const FORGET: Duration = Duration::from_secs(600);

/// Runs a worker until it has drained.
///
/// # Errors
/// When its runtime or a listener can't be set up.
pub(crate) fn run(shared: Arc<Shared>, index: usize, sockets: Sockets) -> io::Result<()> {
    // Not a `LocalSet`, which is a second scheduler between the tasks and the runtime, paid for at every wake-up.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    shared.telemetry.watch(format!("worker-{index}"), runtime.handle());
    let ledger = Rc::new(Telemeter(shared.clone()));
    let end = runtime.block_on(serve(shared, sockets, ledger));
    tracing::debug!(index, "worker ends");
    end
}

/// The state of one worker.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) server: Server,
    pub(crate) pools: Rc<Pools>,
    pub(crate) dialer: Rc<Dialer>,
    pub(crate) ledger: Rc<dyn Ledger>,
    /// Connections from the mesh and from outside to the local application.
    pub(crate) inbound: Rc<Tracker>,
    /// Connections from the local application.
    pub(crate) outbound: Rc<Tracker>,
    /// TLS handshakes of callers that are not finished.
    pub(crate) handshakes: Rc<Handshakes>,
    in_progress: admission::InProgress,
    config: RefCell<Cache<Current, Arc<ProxyConfig>>>,
    policy: Rc<Policy>,
    clusters: RefCell<HashMap<Wanted, Rc<Cluster>>>,
}

/// Serves on these sockets until the worker has drained. Must run where tasks can be spawned locally.
pub(crate) async fn serve(shared: Arc<Shared>, sockets: Sockets, ledger: Rc<dyn Ledger>) -> io::Result<()> {
    let worker = Worker::new(shared, ledger);
    // Started here, owned by the runtime; each ends when its tracker closes.
    if let Some(socket) = sockets.tunnel {
        tokio::task::spawn_local(inbound::tunnel::accept(worker.clone(), TcpListener::from_std(socket)?));
    }
    for (index, socket) in sockets.permissive.into_iter().enumerate() {
        if let Some(socket) = socket {
            let listener = TcpListener::from_std(socket)?;
            tokio::task::spawn_local(inbound::permissive::accept(worker.clone(), listener, index));
        }
    }
    for (index, socket) in sockets.upstreams.into_iter().enumerate() {
        let listener = TcpListener::from_std(socket)?;
        tokio::task::spawn_local(outbound::accept_upstream(worker.clone(), listener, index));
    }
    if let Some(socket) = sockets.http {
        tokio::task::spawn_local(outbound::accept_http(worker.clone(), TcpListener::from_std(socket)?));
    }
    for socket in sockets.captured.outbound {
        let listener = TcpListener::from_std(socket)?;
        tokio::task::spawn_local(outbound::accept_captured(worker.clone(), listener));
    }
    for socket in sockets.captured.inbound {
        let listener = TcpListener::from_std(socket)?;
        tokio::task::spawn_local(inbound::captured::accept(worker.clone(), listener));
    }
    tokio::task::spawn_local(sweep(Rc::downgrade(&worker)));
    tokio::task::spawn_local(relief::relieve(Rc::downgrade(&worker)));
    let watch = Rc::downgrade(worker.pools.watch());
    tokio::task::spawn_local(vanish::run(watch, worker.shared.clone()));
    worker.until_drained().await;
    Ok(())
}

impl Worker {
    fn new(shared: Arc<Shared>, ledger: Rc<dyn Ledger>) -> Rc<Self> {
        let pools = Rc::new_cyclic(|pools| Pools::new(Rc::new(Dialer::new(shared.clone(), pools.clone()))));
        let limits = &shared.settings.limits;
        Rc::new(Self {
            server: Server::new(&shared.settings),
            dialer: pools.dialer(),
            pools,
            ledger,
            inbound: Tracker::new(limits.connections),
            outbound: Tracker::new(limits.connections),
            handshakes: Handshakes::new(limits.handshakes),
            in_progress: admission::InProgress::default(),
            config: RefCell::new(Cache::new(Current(shared.clone()))),
            policy: Rc::new(policy(&shared.settings)),
            clusters: RefCell::default(),
            shared,
        })
    }

    /// The worker's state for what an upstream wants.
    pub(crate) fn cluster(&self, wanted: &Wanted) -> Rc<Cluster> {
        if let Some(known) = self.clusters.borrow().get(wanted) {
            return known.clone();
        }
        let made = Rc::new(Cluster::new(wanted.clone(), self.policy.clone(), now()));
        self.clusters.borrow_mut().insert(wanted.clone(), made.clone());
        made
    }

    /// Brings `cluster` up to date, asking the control plane if its service is not known yet.
    pub(crate) async fn find(&self, cluster: &Cluster) -> Answer {
        if let Some(address) = &cluster.wanted.at {
            return Box::pin(self.find_at(cluster, address)).await;
        }
        let key = &cluster.wanted.service;
        let (revision, place, known) = {
            let mut config = self.config.borrow_mut();
            let config = config.load();
            if let Some(service) = cluster.current(config.revision, now()) {
                return Answer::Present(service);
            }
            (config.revision, config.place.clone(), self.shared.demand.known(config, key))
        };
        let answer = match known {
            Some(answer) => answer,
            // Rare and large; it must not make every request's future as large.
            None => Box::pin(self.shared.demand.ask(&self.shared.config, key)).await,
        };
        if let Answer::Present(service) = &answer {
            cluster.follow(service, &place, revision, now());
        }
        answer
    }

    /// The same for one that is an instance's own address.
    async fn find_at(&self, cluster: &Cluster, address: &NetworkAddress) -> Answer {
        let (revision, place) = {
            let mut config = self.config.borrow_mut();
            let config = config.load();
            (config.revision, config.place.clone())
        };
        if let Some(service) = cluster.current(revision, now()) {
            return Answer::Present(service);
        }
        match self.owner(address).await {
            Answer::Present(Owner::Itself(service)) => {
                cluster.follow(&service, &place, revision, now());
                Answer::Present(service)
            }
            // It was an instance's when the connection was made, and is none now.
            Answer::Present(Owner::Service(_)) | Answer::Absent => Answer::Absent,
            Answer::Unknown => Answer::Unknown,
        }
    }

    /// Who has an address, asking the control plane if it is not known yet.
    pub(crate) async fn owner(&self, address: &NetworkAddress) -> Answer<Owner> {
        self.shared.addresses.ask(&self.shared.config, address).await
    }

    /// Who this proxy is.
    pub(crate) fn own_id(&self) -> Option<SpiffeId> {
        self.shared.svids.current().map(|credentials| credentials.svid.id().clone())
    }

    /// The namespace in which names without one are meant: this proxy's own.
    pub(crate) fn own_namespace(&self) -> Namespace {
        self.shared.own_namespace().unwrap_or_else(Namespace::default_namespace)
    }

    /// Waits for the drain signal, and then until everything is finished or the deadline has come.
    async fn until_drained(&self) {
        let mut phases = self.shared.drain.subscribe();
        let phase = match phases.wait_for(|phase| matches!(phase, Phase::Draining { .. })).await {
            Ok(phase) => *phase,
            // The signal lives as long as `Shared`, which this worker holds.
            Err(_closed) => return,
        };
        let Phase::Draining { close, deadline } = phase else { return };
        tokio::time::sleep_until(close).await;
        let finished = async {
            self.inbound.close();
            self.inbound.emptied().await;
            self.outbound.close();
            self.outbound.emptied().await;
        };
        if tokio::time::timeout_at(deadline, finished).await.is_err() {
            let open = self.inbound.open() + self.outbound.open();
            tracing::warn!(open, "the drain deadline is over: what is open is cut");
        }
        self.pools.close();
    }

    fn sweep(&self) {
        self.pools.sweep(Instant::now());
        self.clusters.borrow_mut().retain(|_, cluster| {
            let used = now().saturating_duration_since(cluster.last_used()) < FORGET;
            // A listener of its own holds its cluster for ever.
            used || Rc::strong_count(cluster) > 1
        });
        for cluster in self.clusters.borrow().values() {
            let (before, after) = cluster.count_out(now());
            for _ in before..after {
                self.shared.telemetry.rise(Level::Ejected);
            }
            for _ in after..before {
                self.shared.telemetry.fall(Level::Ejected);
            }
        }
    }

    /// Counts and logs a failure that is one of a message's form: `peer`'s request, or the response to it.
    pub(crate) fn malformed(&self, failure: &Failure, peer: SocketAddr) {
        let Some(kind) = failure.malformed else { return };
        let (message, peer) = match failure.flag {
            ResponseFlag::DownstreamProtocolError => (Message::Request, Some(peer)),
            _ => (Message::Response, None),
        };
        self.shared.telemetry.malformed(message, kind, peer, &failure.detail);
    }
}

/// Now, as the pure parts take it; follows the paused clock of tests.
pub(crate) fn now() -> std::time::Instant {
    Instant::now().into_std()
}

async fn sweep(worker: std::rc::Weak<Worker>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        match worker.upgrade() {
            Some(worker) => worker.sweep(),
            None => return,
        }
    }
}

fn policy(settings: &Settings) -> Policy {
    Policy {
        outlier: OutlierPolicy {
            consecutive_failures: settings.outlier.consecutive_failures,
            max_ejected_percent: settings.outlier.max_ejected_percent.min(100),
            base_ejection: settings.outlier.base_ejection,
        },
        budget: BudgetPolicy {
            ratio: f64::from(settings.retries.budget_percent) / 100.0,
            min_per_second: settings.retries.min_per_second,
        },
        retries: settings.retries.attempts,
        near: settings.locality.prefer,
    }
}

/// Where the configuration is, for this thread's cache.
struct Current(Arc<Shared>);

impl Deref for Current {
    type Target = ArcSwap<ProxyConfig>;
    fn deref(&self) -> &Self::Target {
        self.0.config.swap()
    }
}

/// Tells the process's telemetry.
struct Telemeter(Arc<Shared>);

impl Ledger for Telemeter {
    fn started(&self) {
        self.0.telemetry.rise(Level::Active);
    }

    fn ended(&self, record: &Record) {
        self.0.telemetry.fall(Level::Active);
        self.0.telemetry.record(record);
    }

    fn cuts(&self) -> bool {
        match self.0.drain.phase() {
            Phase::Draining { deadline, .. } => Instant::now() >= deadline,
            Phase::Serving => false,
        }
    }
}

#[cfg(test)]
mod tests;
