//! Plaintext listeners for callers outside the mesh, on the ports that are set to be permissive.
//!
//! These callers have no identity, whatever their headers say. Requests and bytes reach the one port of the listener only.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use tokio::net::{TcpListener, TcpStream};
use weft_http::http2::Side;
use weft_model::Protocol;

use crate::http::call::{Call, chain};
use crate::http::detect::{Spoken, detect};
use crate::http::watched::Report;
use crate::inbound::{Connection, Port, Ports, bytes, http};
use crate::record::{Record, Reporter, RequestProtocol};
use crate::telemetry::Level;
use crate::worker::{Guard, Worker};

/// Accepts for the `[[inbound]]` of this number in the settings.
pub(crate) async fn accept(worker: Rc<Worker>, listener: TcpListener, index: usize) {
    let tracker = worker.inbound.clone();
    let serving = worker.clone();
    let speaks_http1 = {
        let inbound = worker.shared.settings.inbound.get(index);
        inbound.is_some_and(|inbound| inbound.protocol == Protocol::Http1)
    };
    crate::worker::accept(
        &worker,
        listener,
        tracker,
        || speaks_http1,
        move |stream, peer, guard| serve_declared(serving.clone(), index, stream, peer, guard),
    )
    .await;
}

async fn serve_declared(worker: Rc<Worker>, index: usize, stream: TcpStream, peer: SocketAddr, guard: Guard) {
    let local = stream.local_addr().ok().map(|local| local.ip());
    let ports = Ports::new(&worker.shared.settings, worker.own_id().as_ref(), local);
    let Some(port) = ports.declared(index) else { return };
    serve(worker, ports, port, stream, peer, guard).await;
}

/// Serves a caller without an identity, who reaches this one port.
pub(super) async fn serve(
    worker: Rc<Worker>,
    ports: Ports,
    port: Rc<Port>,
    stream: TcpStream,
    peer: SocketAddr,
    guard: Guard,
) {
    worker.shared.telemetry.rise(Level::PermissiveConnections);
    let closed = guard.closed();
    let connection = Rc::new(Connection {
        caller: None,
        xfcc: None,
        ports,
        peer,
        requests: true,
        guard: Rc::new(guard),
        worker: worker.clone(),
    });
    let spoken = tokio::select! {
        biased;
        spoken = spoken(&worker, &port, &stream) => spoken,
        () = connection.guard.closed() => Ok(Spoken::Nothing),
    };
    match spoken {
        Ok(Spoken::Opaque | Spoken::Silent) if !port.protocol.is_http() => {
            let call = Call::new(worker.ledger.clone(), record(peer));
            bytes::relay(&connection, port, stream, call).await;
        }
        Ok(Spoken::Nothing | Spoken::Silent) => {}
        Ok(spoken) => {
            let service = http::Streams { connection, fixed: Some(port) };
            if spoken == Spoken::Http2 {
                let report = Report::new(worker.shared.clone(), Side::Accepted, Some(peer));
                if let Err(error) = worker.server.http2(stream, report, service, closed).await {
                    tracing::debug!(%peer, error = %chain(&error), "a plaintext caller's connection ended");
                }
            } else {
                worker.server.http1(stream, service, closed).await;
            }
        }
        Err(error) => tracing::debug!(%peer, %error, "a connection broke before its first byte"),
    }
    worker.shared.telemetry.fall(Level::PermissiveConnections);
}

async fn spoken(worker: &Worker, port: &Port, stream: &TcpStream) -> std::io::Result<Spoken> {
    let timeouts = &worker.shared.settings.timeouts;
    match port.protocol {
        Protocol::Tcp | Protocol::Tls => Ok(Spoken::Opaque),
        Protocol::Detect => detect(stream, timeouts.detect).await,
        Protocol::Http1 | Protocol::Http2 | Protocol::Grpc => detect(stream, timeouts.header_read).await,
    }
}

pub(super) fn record(peer: SocketAddr) -> Record {
    Record {
        reporter: Reporter::Destination,
        started: SystemTime::now(),
        duration: Duration::ZERO,
        method: ::http::Method::CONNECT,
        uri: ::http::Uri::default(),
        authority: None,
        request_id: None,
        user_agent: None,
        protocol: RequestProtocol::Tcp,
        status: 0,
        grpc_status: None,
        flag: None,
        detail: String::new(),
        source: None,
        destination: None,
        upstream: None,
        downstream: Some(peer),
        bytes_received: 0,
        bytes_sent: 0,
        retries: 0,
        mtls: Some(false),
    }
}
