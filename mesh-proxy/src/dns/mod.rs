//! Names of the mesh for the local application, and everybody else's through its own resolvers.
//!
//! What is asked, answered and forwarded is decided in `weft-dns`; here are its sockets, on the shell's runtime: a query costs
//! little, and applications keep the answers. Everything is bounded: queries in progress, connections, and how long
//! either lasts. What is beyond a bound is told so at once, since an application that hears nothing asks again.

mod answer;
mod forward;
mod names;
mod resolvers;
mod tcp;
mod udp;

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(crate) use names::Names;

use crate::shared::Shared;
use crate::sockets::DnsSockets;
use crate::telemetry::{DnsOutcome, Refused};
use resolvers::Resolvers;

/// A task that serves one socket for ever.
pub(crate) type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What all queries use.
struct Dns {
    shared: Arc<Shared>,
    resolvers: Resolvers,
    queries: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    /// The sockets from which resolvers are being asked: a question that comes from one of them went in a circle.
    asking: Mutex<HashSet<SocketAddr>>,
    said_circle: AtomicBool,
}

/// How a query came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Udp,
    Tcp,
}

/// The tasks that serve these sockets.
pub(crate) fn listen(shared: &Arc<Shared>, sockets: Vec<DnsSockets>) -> io::Result<Vec<Serving>> {
    let dns = Dns::new(shared.clone());
    let mut tasks: Vec<Serving> = Vec::new();
    for DnsSockets { udp, tcp } in sockets {
        tasks.push(Box::pin(udp::serve(dns.clone(), tokio::net::UdpSocket::from_std(udp)?)));
        tasks.push(Box::pin(tcp::serve(dns.clone(), tokio::net::TcpListener::from_std(tcp)?)));
    }
    Ok(tasks)
}

impl Dns {
    fn new(shared: Arc<Shared>) -> Arc<Self> {
        let limits = &shared.settings.limits;
        Arc::new(Self {
            resolvers: Resolvers::new(&shared.settings.dns, &shared.bound.dns),
            queries: Arc::new(Semaphore::new(limits.dns_queries)),
            connections: Arc::new(Semaphore::new(limits.dns_connections)),
            asking: Mutex::default(),
            said_circle: AtomicBool::new(false),
            shared,
        })
    }

    /// A place for one query; `None`: there are as many as allowed.
    fn place(&self) -> Option<OwnedSemaphorePermit> {
        let place = self.queries.clone().try_acquire_owned().ok();
        if place.is_none() {
            self.shared.telemetry.refused_by_limit(Refused::DnsQueries);
        }
        place
    }

    fn count(&self, outcome: DnsOutcome) {
        self.shared.telemetry.dns(outcome);
    }

    /// Notes a socket from which a resolver is asked, for as long as it is.
    fn asks_from(&self, own: SocketAddr) -> Asking<'_> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner).insert(own);
        Asking { dns: self, own }
    }

    /// Whether it was this proxy that asked, and the answer would be a question again.
    fn went_in_a_circle(&self, peer: SocketAddr) -> bool {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner).contains(&peer)
    }

    /// Once: it is so with every query, until somebody changes something and starts it again.
    fn say_that_it_is_a_circle(&self, peer: SocketAddr) {
        if !self.said_circle.swap(true, Ordering::Relaxed) {
            tracing::error!(%peer, "a DNS query of this proxy itself came back to it: the redirection does not leave its user alone, or dns.nameservers leads back here");
        }
    }
}

/// A socket from which a resolver is asked.
struct Asking<'a> {
    dns: &'a Dns,
    own: SocketAddr,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.dns.asking.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.own);
    }
}

#[cfg(test)]
mod tests;
