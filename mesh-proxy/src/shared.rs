//! What every thread of the process shares: one [`Shared`] in one `Arc`.
//!
//! Workers read from here and write only counters. The sockets are bound before the workers start, so that a taken
//! port is an error at start and port 0 gives every worker the same port.

use std::net::{SocketAddr, TcpListener};

use tokio::sync::watch;
use tokio::time::Instant;
use weft_identity::SvidSource;
use weft_model::{Namespace, NetworkAddress};

use crate::config::ConfigStore;
use crate::demand::Demand;
use crate::dns::Names;
use crate::overload::{FileLimit, Overload};
use crate::settings::Settings;
use crate::telemetry::Telemetry;

/// The parts that all threads use.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) config: ConfigStore,
    pub(crate) svids: SvidSource,
    pub(crate) demand: Demand,
    /// The addresses of captured connections.
    pub(crate) addresses: Demand<NetworkAddress>,
    /// The addresses that stand for services, where names are answered.
    pub(crate) names: Option<Names>,
    pub(crate) telemetry: Telemetry,
    pub(crate) drain: DrainSignal,
    pub(crate) overload: Overload,
    pub(crate) files: FileLimit,
    /// Where the process listens, port 0 resolved: for refusing calls to itself.
    pub(crate) bound: Bound,
}

impl Shared {
    /// The namespace in which names without one are meant: this proxy's own. `None`: it has no identity yet.
    pub(crate) fn own_namespace(&self) -> Option<Namespace> {
        let credentials = self.svids.current()?;
        let account = credentials.svid.id().service_account();
        let namespace = account.and_then(|(namespace, _)| namespace.parse().ok());
        Some(namespace.unwrap_or_else(Namespace::default_namespace))
    }
}

#[cfg(test)]
impl Shared {
    /// Of a settings text and without anything known. Does not log requests.
    pub(crate) fn for_tests(settings: &str) -> Self {
        let settings = Settings::from_toml(&format!("access_log.mode = 'off'\n{settings}"));
        Self {
            config: ConfigStore::new(crate::place::placed(crate::config::ProxyConfig::default(), &settings)),
            svids: SvidSource::new(),
            demand: Demand::new(settings.upstream.iter().map(|upstream| upstream.service.clone()), 10),
            addresses: Demand::new(
                crate::place::own_addresses(&settings),
                settings.limits.on_demand_addresses,
            ),
            names: None,
            telemetry: Telemetry::new(&settings).unwrap(),
            drain: DrainSignal::new(),
            overload: Overload::new(1 << 40),
            files: FileLimit::of(u64::MAX),
            bound: Bound::default(),
            settings,
        }
    }
}

/// Whether the process takes new work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It does.
    Serving,
    /// It finishes what it has.
    Draining {
        /// Listeners stay open until then, while callers learn of it.
        close: Instant,
        /// What is open then is cut.
        deadline: Instant,
    },
}

/// Set once by the shell, awaited by every worker.
#[derive(Debug)]
pub(crate) struct DrainSignal(watch::Sender<Phase>);

impl DrainSignal {
    /// A signal that is not given yet.
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Phase::Serving))
    }

    /// Now.
    pub(crate) fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// For waiting: `wait_for(|phase| matches!(phase, Phase::Draining { .. }))`.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Phase> {
        self.0.subscribe()
    }

    /// Starts draining; a second call changes nothing.
    pub(crate) fn drain(&self, close: Instant, deadline: Instant) {
        self.0.send_if_modified(|phase| {
            let first = *phase == Phase::Serving;
            if first {
                *phase = Phase::Draining { close, deadline };
            }
            first
        });
    }
}

/// One worker's own sockets, non-blocking, bound with `SO_REUSEPORT`: the kernel spreads connections over the workers.
/// For `tokio::net::TcpListener::from_std` inside the worker's runtime.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    /// The mTLS listener, where there is an `[[inbound]]`.
    pub(crate) tunnel: Option<TcpListener>,
    /// The HTTP port, where it is set.
    pub(crate) http: Option<TcpListener>,
    /// What is captured of the application's own connections, and of connections to it.
    pub(crate) captured: Captured<TcpListener>,
    /// In the order of `settings.upstream`.
    pub(crate) upstreams: Vec<TcpListener>,
    /// In the order of `settings.inbound`; `None` where it is not permissive.
    pub(crate) permissive: Vec<Option<TcpListener>>,
}

/// The listeners to which the kernel redirects, one an address family.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Captured<T> {
    pub(crate) outbound: Vec<T>,
    pub(crate) inbound: Vec<T>,
}

impl<T> Default for Captured<T> {
    fn default() -> Self {
        Self { outbound: Vec::new(), inbound: Vec::new() }
    }
}

/// The addresses of the listeners; the same shape as [`Sockets`], and what `ports.json` says.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Bound {
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) health: Option<SocketAddr>,
    pub(crate) tunnel: Option<SocketAddr>,
    pub(crate) http: Option<SocketAddr>,
    pub(crate) upstreams: Vec<SocketAddr>,
    pub(crate) permissive: Vec<Option<SocketAddr>>,
    pub(crate) captured: Captured<SocketAddr>,
    pub(crate) dns: Vec<SocketAddr>,
}

impl Bound {
    /// Whether `address`, which is one of this host, is a listener of this proxy itself: a call to it would go round in
    /// circles.
    pub(crate) fn is_own(&self, address: SocketAddr) -> bool {
        let single = [self.admin, self.health, self.tunnel, self.http].into_iter().flatten();
        let permissive = self.permissive.iter().copied().flatten();
        let captured = self.captured.outbound.iter().chain(&self.captured.inbound).copied();
        let mut all = single
            .chain(self.upstreams.iter().copied())
            .chain(permissive)
            .chain(captured)
            .chain(self.dns.iter().copied());
        all.any(|own| {
            let here = own.ip() == address.ip() || own.ip().is_unspecified();
            own.port() == address.port() && here
        })
    }
}
