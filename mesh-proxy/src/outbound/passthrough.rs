//! Bytes to where a captured connection was going, as they came: the destination is nobody's in the mesh.

use std::net::SocketAddr;
use std::rc::Rc;

use tokio::net::TcpStream;

use super::tcp::record;
use crate::http::call::Call;
use crate::http::failure::Failure;
use crate::http::upgrade::finish;
use crate::record::Reporter;
use crate::tcp::bytes::reset;
use crate::tcp::copy::{Ended, Traffic, both_ways};
use crate::worker::{Guard, Worker};

/// Relays one connection until its end.
pub(super) async fn relay(
    worker: Rc<Worker>,
    to: SocketAddr,
    mut stream: TcpStream,
    peer: SocketAddr,
    guard: Guard,
) {
    let _counted = guard;
    let mut call = call(&worker, peer, to);
    let (mut endpoint, _) = match worker.dialer.tcp(&[to]).await {
        Ok(connected) => connected,
        Err(error) => {
            // The application learns of it as it would without us.
            reset(&stream);
            call.failed(&error.failure());
            return call.complete();
        }
    };
    let source = call.record.source.as_ref();
    worker.shared.telemetry.tcp_opened(Reporter::Source, source, None, call.record.mtls);
    let traffic = Traffic::default();
    let idle = worker.shared.settings.timeouts.idle;
    let ended = both_ways(&mut stream, &mut endpoint, idle, &traffic).await;
    match &ended {
        Ended::Endpoint(_) => reset(&stream),
        Ended::Client(_) => reset(&endpoint),
        Ended::Whole | Ended::Idle => {}
    }
    finish(call, &traffic, &ended);
}

/// Takes note of one that is closed and goes nowhere.
pub(super) fn refuse(worker: &Worker, peer: SocketAddr, to: SocketAddr, failure: &Failure) {
    let mut call = call(worker, peer, to);
    call.failed(failure);
    call.complete();
}

fn call(worker: &Worker, peer: SocketAddr, to: SocketAddr) -> Box<Call> {
    let mut record = record(worker, peer);
    record.upstream = Some(to);
    record.mtls = Some(false);
    Call::new(worker.ledger.clone(), record)
}
