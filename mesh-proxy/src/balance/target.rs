//! One endpoint's port as a place to send requests to, with what this worker knows of it.
//!
//! The description changes with the configuration, the memory (latency, failures, requests in flight) stays for as
//! long as the instance keeps its addresses.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_model::{Protocol, SpiffeId, Tunnel};

use crate::balance::ewma::PeakEwma;
use crate::balance::outlier::Outlier;
use crate::config::{Endpoint, EndpointPort};
use crate::pool::Pool;
use crate::record::Destination;
use crate::vanish::{Watch, Way};

/// How an endpoint is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Via {
    /// Through its proxy, which must prove this identity.
    Tunnel { addresses: Rc<[SocketAddr]>, identity: SpiffeId },
    /// As it is, without TLS: outside the mesh.
    Plaintext { addresses: Rc<[SocketAddr]> },
}

/// Why an endpoint can't be used whatever its health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// It has a proxy, but nobody says who it is.
    NoIdentity,
    /// It has no proxy, and this upstream does not allow plaintext.
    OutsideTheMesh,
    /// It has no such port.
    NoPort,
    /// Its service is for callers of the same node, and this proxy is none.
    OtherNode,
}

/// A place to send requests to.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) port: EndpointPort,
    /// What is spoken there, all sources considered.
    pub(crate) protocol: Protocol,
    pub(crate) via: Via,
    /// For telemetry, made once.
    pub(crate) destination: Arc<Destination>,
    pub(crate) memory: Rc<Memory>,
    /// The pool for requests, found once.
    pub(crate) pool: OnceCell<Rc<Pool>>,
}

/// What this worker has seen of an endpoint.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    in_flight: Cell<u32>,
    latency: Cell<PeakEwma>,
    outlier: RefCell<Outlier>,
    way: RefCell<Option<Rc<Way>>>,
}

/// Counts a request at an endpoint until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Rc<Memory>);

impl Via {
    /// How to reach `port` of `endpoint`.
    pub(crate) fn of(endpoint: &Endpoint, port: u16, plaintext: bool) -> Result<Self, Unusable> {
        let at = |port: u16| endpoint.addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
        match (endpoint.tunnel, &endpoint.identity) {
            (Tunnel::Port(tunnel), Some(identity)) => {
                Ok(Self::Tunnel { addresses: at(tunnel), identity: identity.clone() })
            }
            (Tunnel::Port(_), None) => Err(Unusable::NoIdentity),
            (Tunnel::None, _) if plaintext => Ok(Self::Plaintext { addresses: at(port) }),
            (Tunnel::None, _) => Err(Unusable::OutsideTheMesh),
        }
    }
}

impl Target {
    /// The registered address and port, as a `CONNECT` authority.
    pub(crate) fn registered(&self) -> Option<SocketAddr> {
        self.endpoint.addresses.first().map(|ip| SocketAddr::new(*ip, self.port.number))
    }

    /// Whether the hop is mTLS.
    pub(crate) fn is_mtls(&self) -> bool {
        matches!(self.via, Via::Tunnel { .. })
    }

    /// Takes note of a request that is about to be sent there.
    pub(crate) fn start(&self) -> InFlight {
        self.memory.in_flight.set(self.memory.in_flight.get().saturating_add(1));
        InFlight(self.memory.clone())
    }
}

impl Memory {
    /// What one more request costs.
    pub(crate) fn cost(&self, now: Instant) -> f64 {
        self.latency.get().cost(self.in_flight.get(), now)
    }

    /// Takes note of the time to the response's head.
    pub(crate) fn observe(&self, latency: Duration, now: Instant) {
        let mut average = self.latency.get();
        average.observe(latency, now);
        self.latency.set(average);
    }

    /// The failures seen.
    pub(crate) fn outlier(&self) -> &RefCell<Outlier> {
        &self.outlier
    }

    /// Whether it is ejected at the moment.
    pub(crate) fn is_ejected(&self, now: Instant) -> bool {
        self.outlier.borrow().is_ejected(now)
    }

    /// Whether others are preferred at the moment: it is ejected, or its host is not heard.
    pub(crate) fn is_out(&self, now: Instant) -> bool {
        self.is_ejected(now) || self.way.borrow().as_ref().is_some_and(|way| way.is_doubted())
    }

    /// Takes note of how it is reached.
    pub(crate) fn goes(&self, watch: &Watch, via: &Via) -> Rc<Way> {
        let (Via::Tunnel { addresses, .. } | Via::Plaintext { addresses }) = via;
        let way = watch.way(addresses);
        *self.way.borrow_mut() = Some(way.clone());
        way
    }

    /// How it is reached, once it has been.
    pub(crate) fn way(&self) -> Option<Rc<Way>> {
        self.way.borrow().clone()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get().saturating_sub(1));
    }
}
