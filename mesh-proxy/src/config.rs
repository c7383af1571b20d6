//! What the data path decides by: one immutable value, loaded once a request.
//!
//! Built by `mesh.rs` from the control plane's resources; a change of one service replaces that service's
//! `Arc` only. Every reader sees either the old or the new configuration, never half of each.
//! It does not hold keys and certificates (`weft_identity::SvidSource`) or per-endpoint state (the balancer's).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use weft_model::{
    Health, InstanceId, Locality, NetworkAddress, NodeName, PortName, Prefer, Protocol, ServiceKey,
    ServicePort, SpiffeId, Tunnel,
};

use crate::place::Place;

/// All that is known of the mesh at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProxyConfig {
    /// Increases with every change; for the config dump and for waiting on a change.
    pub(crate) revision: u64,
    /// The services that are known to exist, or known not to.
    pub(crate) services: imbl::HashMap<ServiceKey, KnownService>,
    /// The addresses whose owner is known, or that are known to have none.
    pub(crate) addresses: imbl::HashMap<NetworkAddress, KnownAddress>,
    /// Where this proxy runs; the same `Arc` until it is known to be elsewhere.
    pub(crate) place: Arc<Place>,
}

/// What is known of an address that a captured connection went to.
#[derive(Debug, Clone)]
pub(crate) enum KnownAddress {
    /// The control plane said that it is nobody's.
    Free,
    /// Somebody has it.
    Owned(Owner),
}

/// Who has an address.
#[derive(Debug, Clone)]
pub(crate) enum Owner {
    /// It stands for this service.
    Service(ServiceKey),
    /// It is its endpoints' own, each with this address alone and all its ports: who calls it means this very instance.
    Itself(Arc<ServiceConfig>),
}

/// What is known of a service that somebody asked for.
#[derive(Debug, Clone)]
pub(crate) enum KnownService {
    /// The control plane said that there is none of this name.
    Absent,
    /// It exists.
    Present(Arc<ServiceConfig>),
}

/// A service with its endpoints.
#[derive(Debug, Clone)]
pub(crate) struct ServiceConfig {
    pub(crate) key: ServiceKey,
    /// As declared; empty where the registry declares none, then the endpoints' ports count.
    pub(crate) ports: Vec<ServicePort>,
    /// Every workload of the service, also those that take no new work.
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
    /// Which of them callers are to use. `None`: this proxy's own setting holds.
    pub(crate) prefer: Option<Prefer>,
}

/// One workload, seen as a member of one service.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Endpoint {
    pub(crate) id: InstanceId,
    /// In order of preference; never empty.
    pub(crate) addresses: Vec<IpAddr>,
    /// Its ports for this service.
    pub(crate) ports: Vec<EndpointPort>,
    /// Who must answer. `None` with a tunnel: the endpoint can't be used.
    pub(crate) identity: Option<SpiffeId>,
    pub(crate) tunnel: Tunnel,
    /// Its proxy takes all its ports, also those that nobody registered.
    pub(crate) captured: bool,
    pub(crate) weight: u32,
    pub(crate) health: Health,
    pub(crate) locality: Locality,
    pub(crate) node: Option<NodeName>,
    /// Labels `app` and `version`, for telemetry; empty where unknown.
    pub(crate) app: Arc<str>,
    pub(crate) version: Arc<str>,
}

/// A port of an endpoint.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EndpointPort {
    pub(crate) name: Option<PortName>,
    pub(crate) number: u16,
    pub(crate) protocol: Protocol,
}

impl Endpoint {
    /// The preferred socket address of its tunnel, where it has one.
    pub(crate) fn tunnel_address(&self) -> Option<SocketAddr> {
        match self.tunnel {
            Tunnel::Port(port) => self.addresses.first().map(|ip| SocketAddr::new(*ip, port)),
            Tunnel::None => None,
        }
    }
}

/// The one place where the current configuration is: value first, then the nudge.
#[derive(Debug)]
pub(crate) struct ConfigStore {
    current: ArcSwap<ProxyConfig>,
    revision: watch::Sender<u64>,
}

impl ConfigStore {
    /// A store that holds `first`.
    pub(crate) fn new(first: ProxyConfig) -> Self {
        let revision = watch::Sender::new(first.revision);
        Self { current: ArcSwap::from_pointee(first), revision }
    }

    /// The current configuration. Keep it for the whole request.
    pub(crate) fn load(&self) -> Arc<ProxyConfig> {
        self.current.load_full()
    }

    /// For a per-thread `arc_swap::Cache`, which spares the reference count.
    pub(crate) fn swap(&self) -> &ArcSwap<ProxyConfig> {
        &self.current
    }

    /// Replaces the configuration and wakes who waits for a change.
    pub(crate) fn publish(&self, next: ProxyConfig) {
        let revision = next.revision;
        self.current.store(Arc::new(next));
        self.revision.send_replace(revision);
    }

    /// Wakes at every change; the value is the revision.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }
}
