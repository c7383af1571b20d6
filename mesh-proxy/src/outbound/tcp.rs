//! Opaque bytes to a service: one stream through the endpoint's proxy, or plain TCP where that is allowed.
//!
//! The stream stands before a byte is read, so protocols where the server speaks first work. Until then nothing has been
//! sent, so every failure is tried again elsewhere, within the same bounds as a request's.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use tokio::net::TcpStream;

use crate::balance::cluster::{Cluster, Outcome};
use crate::balance::target::{Target, Via};
use crate::demand::Answer;
use crate::http::call::Call;
use crate::http::failure::Failure;
use crate::http::upgrade::finish;
use crate::outbound::attempt::note;
use crate::pool::{DialError, Held, Lease};
use crate::record::{Record, Reporter, RequestProtocol, ResponseFlag};
use crate::tcp::bytes::{Bytes, reset};
use crate::tcp::copy::{Ended, Traffic, both_ways};
use crate::telemetry::Count;
use crate::worker::{Guard, Worker, now};

/// Relays one connection until its end.
pub(super) async fn relay(
    worker: Rc<Worker>,
    cluster: Rc<Cluster>,
    mut stream: TcpStream,
    peer: SocketAddr,
    guard: Guard,
) {
    let _counted = guard;
    let mut call = Call::new(worker.ledger.clone(), record(&worker, peer));
    match opened(&worker, &cluster, &mut call).await {
        Ok(mut endpoint) => {
            let traffic = Traffic::default();
            let idle = worker.shared.settings.timeouts.idle;
            let ended = both_ways(&mut stream, &mut endpoint, idle, &traffic).await;
            match &ended {
                Ended::Endpoint(_) => reset(&stream),
                Ended::Client(_) => endpoint.reset(),
                Ended::Whole | Ended::Idle => {}
            }
            finish(call, &traffic, &ended);
        }
        Err(failure) => {
            // Bytes have no way to say why; the record has.
            call.failed(&failure);
            call.complete();
        }
    }
}

async fn opened(worker: &Worker, cluster: &Cluster, call: &mut Call) -> Result<Bytes, Failure> {
    let name = &cluster.wanted.service;
    match worker.find(cluster).await {
        Answer::Present(_) => open(worker, cluster, call).await,
        Answer::Absent => {
            Err(Failure::unsent(ResponseFlag::NoRoute, format!("there is no service {name} in the mesh")))
        }
        Answer::Unknown => {
            let words = format!("nothing is known of service {name} yet: the control plane has not answered");
            Err(Failure::unsent(ResponseFlag::NoHealthyUpstream, words))
        }
    }
}

/// Opens the way to an endpoint. `call` holds what it occupies.
pub(super) async fn open(worker: &Worker, cluster: &Cluster, call: &mut Call) -> Result<Bytes, Failure> {
    cluster.requested(now());
    let mut tried = Vec::new();
    loop {
        let target = cluster.pick(&tried, now())?;
        call.record.destination = Some(target.destination.clone());
        call.record.mtls = Some(target.is_mtls());
        let error = match reach(worker, &target, call).await {
            Ok(bytes) => {
                note(worker, cluster, &target, Outcome::Good, now());
                let (source, to) = (call.record.source.as_ref(), call.record.destination.as_ref());
                worker.shared.telemetry.tcp_opened(Reporter::Source, source, to, call.record.mtls);
                return Ok(bytes);
            }
            Err(error) => error,
        };
        if error.is_endpoints_fault() {
            note(worker, cluster, &target, Outcome::Bad, now());
        }
        if call.record.retries >= cluster.policy.retries {
            return Err(error.failure());
        }
        if !cluster.may_retry(now()) {
            worker.shared.telemetry.add(Count::RetriesRefused, 1);
            let detail = format!("the retry budget is used up; before: {error}");
            return Err(Failure::unsent(ResponseFlag::RetryLimitExceeded, detail));
        }
        call.record.retries += 1;
        tried.push(target);
    }
}

async fn reach(worker: &Worker, target: &Target, call: &mut Call) -> Result<Bytes, DialError> {
    let in_flight = Some(target.start());
    target.memory.goes(worker.pools.watch(), &target.via);
    let started = now();
    let bytes = match &target.via {
        Via::Plaintext { addresses } => {
            let (tcp, peer, _) = worker.dialer.endpoint(addresses).await?;
            call.record.upstream = Some(peer);
            call.holds(Lease { in_flight, connection: Held::Nothing });
            Bytes::Tcp(tcp)
        }
        Via::Tunnel { addresses, identity } => {
            let no_address = || DialError::new(crate::pool::DialKind::Connect, "the endpoint has no address");
            let authority = target.registered().ok_or_else(no_address)?;
            call.record.upstream = Some(authority);
            let (bytes, stream) = worker.dialer.opaque(addresses, identity, authority).await?;
            call.record.upstream = Some(stream.peer());
            call.holds(Lease { in_flight, connection: Held::Stream(stream) });
            bytes
        }
    };
    target.memory.observe(now().saturating_duration_since(started), now());
    Ok(bytes)
}

pub(super) fn record(worker: &Worker, peer: SocketAddr) -> Record {
    Record {
        reporter: Reporter::Source,
        started: SystemTime::now(),
        duration: Duration::ZERO,
        method: http::Method::CONNECT,
        uri: http::Uri::default(),
        authority: None,
        request_id: None,
        user_agent: None,
        protocol: RequestProtocol::Tcp,
        status: 0,
        grpc_status: None,
        flag: None,
        detail: String::new(),
        source: worker.own_id(),
        destination: None,
        upstream: None,
        downstream: Some(peer),
        bytes_received: 0,
        bytes_sent: 0,
        retries: 0,
        mtls: None,
    }
}
