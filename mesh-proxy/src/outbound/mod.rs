//! From the local application into the mesh.
//!
//! A listener of an upstream leads to one service, the HTTP port to any, by name, and captured connections to where they
//! were going. What a connection speaks is the
//! upstream's declared protocol, or decided by its first bytes; requests then take [`http`], bytes take [`tcp`].

mod attempt;
mod captured;
mod connect;
mod http;
mod passthrough;
mod tcp;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use weft_http::http2::Side;
use weft_model::Protocol;

use crate::balance::cluster::{Cluster, Wanted};
use crate::http::detect::{Spoken, detect};
use crate::http::watched::Report;
pub(crate) use crate::outbound::captured::accept_captured;
use crate::outbound::http::Origin;
use crate::telemetry::Level;
use crate::worker::{Guard, Worker};

/// Accepts for the upstream of this number in the settings.
pub(crate) async fn accept_upstream(worker: Rc<Worker>, listener: TcpListener, index: usize) {
    let Some(upstream) = worker.shared.settings.upstream.get(index) else { return };
    let wanted = Wanted {
        service: upstream.service.clone(),
        at: None,
        port: upstream.port.clone(),
        protocol: upstream.protocol,
        plaintext: upstream.plaintext,
    };
    let cluster = worker.cluster(&wanted);
    let expects = cluster.clone();
    let speaks_http1 =
        move || wanted.protocol.unwrap_or_else(|| expects.expected_protocol()) == Protocol::Http1;
    let tracker = worker.outbound.clone();
    let serving = worker.clone();
    crate::worker::accept(&worker, listener, tracker, speaks_http1, move |stream, peer, guard| {
        serve_upstream(serving.clone(), cluster.clone(), stream, peer, guard)
    })
    .await;
}

/// Accepts for the HTTP port.
pub(crate) async fn accept_http(worker: Rc<Worker>, listener: TcpListener) {
    let tracker = worker.outbound.clone();
    let serving = worker.clone();
    crate::worker::accept(
        &worker,
        listener,
        tracker,
        || true,
        move |stream, peer, guard| serve_by_host(serving.clone(), stream, peer, guard),
    )
    .await;
}

async fn serve_upstream(
    worker: Rc<Worker>,
    cluster: Rc<Cluster>,
    stream: TcpStream,
    peer: SocketAddr,
    guard: Guard,
) {
    let _open = Open::new(&worker);
    serve_cluster(worker, cluster, stream, peer, guard).await;
}

/// Serves a connection that leads to one cluster.
async fn serve_cluster(
    worker: Rc<Worker>,
    cluster: Rc<Cluster>,
    stream: TcpStream,
    peer: SocketAddr,
    guard: Guard,
) {
    let declared = cluster.wanted.protocol.filter(|protocol| *protocol != Protocol::Detect);
    let protocol = match declared {
        Some(protocol) => protocol,
        None => {
            // Unknown services answer below, with a failure that says so.
            tokio::select! {
                biased;
                _answer = worker.find(&cluster) => {}
                () = guard.closed() => return,
            }
            cluster.expected_protocol()
        }
    };
    let timeouts = &worker.shared.settings.timeouts;
    let wait = match protocol {
        Protocol::Tcp | Protocol::Tls => return tcp::relay(worker, cluster, stream, peer, guard).await,
        Protocol::Detect => timeouts.detect,
        Protocol::Http1 | Protocol::Http2 | Protocol::Grpc => timeouts.header_read,
    };
    match first_bytes(&stream, wait, &guard).await {
        Ok(Spoken::Opaque | Spoken::Silent) if protocol == Protocol::Detect => {
            tcp::relay(worker, cluster, stream, peer, guard).await
        }
        Ok(spoken) => serve_http(worker, Some(cluster), spoken, stream, peer, guard).await,
        // The caller is gone before it said anything.
        Err(error) => tracing::debug!(%error, %peer, "a connection broke before its first byte"),
    }
}

async fn serve_by_host(worker: Rc<Worker>, stream: TcpStream, peer: SocketAddr, guard: Guard) {
    let _open = Open::new(&worker);
    serve_any(worker, stream, peer, guard).await;
}

/// Serves a connection whose requests name their services themselves.
async fn serve_any(worker: Rc<Worker>, stream: TcpStream, peer: SocketAddr, guard: Guard) {
    match first_bytes(&stream, worker.shared.settings.timeouts.header_read, &guard).await {
        Ok(spoken) => serve_http(worker, None, spoken, stream, peer, guard).await,
        Err(error) => tracing::debug!(%error, %peer, "a connection broke before its first byte"),
    }
}

/// What is spoken. A connection that is told to leave before it said anything has said nothing.
async fn first_bytes(stream: &TcpStream, wait: Duration, guard: &Guard) -> std::io::Result<Spoken> {
    tokio::select! {
        biased;
        spoken = detect(stream, wait) => spoken,
        () = guard.closed() => Ok(Spoken::Nothing),
    }
}

async fn serve_http(
    worker: Rc<Worker>,
    cluster: Option<Rc<Cluster>>,
    spoken: Spoken,
    stream: TcpStream,
    peer: SocketAddr,
    guard: Guard,
) {
    let closed = guard.closed();
    let origin = Rc::new(Origin::new(worker.clone(), cluster, peer, guard));
    match spoken {
        // Who has something to ask has asked by now.
        Spoken::Nothing | Spoken::Silent => {}
        Spoken::Http2 => {
            let report = Report::new(worker.shared.clone(), Side::Accepted, Some(peer));
            if let Err(error) = worker.server.http2(stream, report, origin, closed).await {
                let error = crate::http::call::chain(&error);
                tracing::debug!(%peer, error, "a caller's connection ended");
            }
        }
        // What is no HTTP either gets its 400.
        Spoken::Http1 | Spoken::Opaque => worker.server.http1(stream, origin, closed).await,
    }
}

/// One open connection in the gauge.
struct Open(Rc<Worker>);

impl Open {
    fn new(worker: &Rc<Worker>) -> Self {
        worker.shared.telemetry.rise(Level::OutboundConnections);
        Self(worker.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.shared.telemetry.fall(Level::OutboundConnections);
    }
}

/// The bytes of one request's future.
#[cfg(test)]
pub(crate) fn future_size() -> usize {
    fn size<A, B, F: Future>(_: fn(A, B) -> F) -> usize {
        size_of::<F>()
    }
    size(http::serve)
}
