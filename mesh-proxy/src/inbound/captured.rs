//! Captured connections to the local application: callers that don't come through the tunnel.
//!
//! They have no identity. Where the settings are strict they are closed; otherwise they reach the very port that they
//! were going to, as through a permissive listener.

use std::net::SocketAddr;
use std::rc::Rc;

use tokio::net::{TcpListener, TcpStream};

use super::permissive;
use super::port::Ports;
use crate::http::call::Call;
use crate::http::failure::Failure;
use crate::record::ResponseFlag;
use crate::settings::Plaintext;
use crate::tcp::original::original_destination;
use crate::worker::{Guard, Worker};

/// Accepts for one listener of `capture.inbound`.
pub(crate) async fn accept(worker: Rc<Worker>, listener: TcpListener) {
    let Ok(own) = listener.local_addr() else { return };
    let tracker = worker.inbound.clone();
    let serving = worker.clone();
    crate::worker::accept(
        &worker,
        listener,
        tracker,
        || false,
        move |stream, peer, guard| serve(serving.clone(), own, stream, peer, guard),
    )
    .await;
}

async fn serve(worker: Rc<Worker>, own: SocketAddr, stream: TcpStream, peer: SocketAddr, guard: Guard) {
    let Some(to) = original_destination(&stream, own) else {
        return tracing::debug!(%peer, "a connection to the capturing listener itself: it leads nowhere");
    };
    if worker.shared.settings.capture.plaintext == Plaintext::Strict {
        let words = format!("{to}: capture.plaintext is strict, and the caller has no identity");
        return refuse(&worker, peer, to, &Failure::unsent(ResponseFlag::Unauthorized, words));
    }
    let ports = Ports::new(&worker.shared.settings, worker.own_id().as_ref(), Some(to.ip()));
    match ports.of(to.port(), &worker.shared.bound) {
        Ok(port) => permissive::serve(worker, ports, port, stream, peer, guard).await,
        Err(failure) => refuse(&worker, peer, to, &failure),
    }
}

fn refuse(worker: &Worker, peer: SocketAddr, to: SocketAddr, failure: &Failure) {
    let mut record = permissive::record(peer);
    record.upstream = Some(to);
    let mut call = Call::new(worker.ledger.clone(), record);
    call.failed(failure);
    call.complete();
}
