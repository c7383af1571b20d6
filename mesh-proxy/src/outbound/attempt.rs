//! Sends a request to one endpoint after the other until one has answered.
//!
//! Tried again is what no endpoint has worked on: no connection, a refused stream, a callee's proxy that could not reach
//! its application; and what may be repeated anyway (idempotent, no body) when the connection broke before the response.
//! Each further attempt must be within the number of attempts and the retry budget.

use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::Response;
use weft_model::Protocol;

use crate::balance::cluster::{Cluster, Outcome};
use crate::balance::target::{Target, Via};
use crate::http::call::Call;
use crate::http::failure::Failure;
use crate::http::headers::{self, WEFT_UNSENT};
use crate::http::incoming::Incoming;
use crate::http::outgoing::{Dialect, Outgoing};
use crate::http::replay::{Broken, Replay};
use crate::http::send::Ready;
use crate::pool::{Alpn, DialError, Hop, Lease, Purpose};
use crate::record::ResponseFlag;
use crate::telemetry::Count;
use crate::vanish::Way;
use crate::worker::{Worker, now};

/// An attempt that failed.
struct Failed {
    failure: Failure,
    /// It may be tried again: nobody can have worked on it, or it does not matter.
    again: bool,
    /// The endpoint is to blame.
    blame: bool,
}

/// Forwards until an endpoint answers or there is no further attempt.
pub(super) async fn forward(
    worker: &Worker,
    cluster: &Cluster,
    outgoing: &Outgoing,
    call: &mut Call,
) -> Result<Response<Incoming>, Failure> {
    let mut at = now();
    cluster.requested(at);
    let mut tried: Vec<Rc<Target>> = Vec::new();
    loop {
        let target = cluster.pick(&tried, at)?;
        call.record.destination = Some(target.destination.clone());
        call.record.mtls = Some(target.is_mtls());
        let failed = match attempt(worker, cluster, &target, outgoing, call).await {
            Ok(response) => return Ok(response),
            Err(failed) => failed,
        };
        if failed.blame {
            note(worker, cluster, &target, Outcome::Bad, now());
        }
        if !failed.again || call.record.retries >= cluster.policy.retries {
            return Err(failed.failure);
        }
        if !cluster.may_retry(now()) {
            worker.shared.telemetry.add(Count::RetriesRefused, 1);
            let detail = format!("the retry budget is used up; before: {}", failed.failure.detail);
            return Err(Failure { flag: ResponseFlag::RetryLimitExceeded, detail, ..failed.failure });
        }
        call.record.retries += 1;
        tried.push(target);
        at = now();
    }
}

/// Takes note of how an endpoint did.
pub(super) fn note(worker: &Worker, cluster: &Cluster, target: &Target, outcome: Outcome, at: Instant) {
    if cluster.note(target, outcome, at) {
        worker.shared.telemetry.add(Count::Ejections, 1);
        tracing::warn!(
            service = %cluster.wanted.service, workload = %target.endpoint.id,
            "ejected for a while: it failed again and again"
        );
    }
}

async fn attempt(
    worker: &Worker,
    cluster: &Cluster,
    target: &Rc<Target>,
    outgoing: &Outgoing,
    call: &mut Call,
) -> Result<Response<Incoming>, Failed> {
    let in_flight = target.start();
    let mut fresh = false;
    loop {
        let ready = connection(worker, target, outgoing, fresh).await?;
        call.record.upstream = ready.peer.or_else(|| target.registered());
        let started = now();
        let request = ready.request(target, outgoing).map_err(not_sent)?;
        let mut sending = pin!(ready.connection.send(request));
        // What may be sent twice does not wait for a host that is silent, if there is another.
        let way = if outgoing.is_repeatable() { target.memory.way() } else { None };
        let sending = unless_unheard(way, sending.as_mut(), || cluster.has_other(target, now()));
        let sent = match worker.shared.settings.timeouts.request {
            None => Ok(sending.await),
            // Boxed: who sets no limit, as is the default, has nothing to carry for it.
            Some(limit) => Box::pin(within(limit, sending)).await,
        };
        let Some(sent) = sent.transpose() else { return Err(unheard(target)) };
        let (response, held) = match sent {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let replayable = error.failure.unsent || outgoing.is_repeatable();
                if error.reused && replayable && !fresh {
                    // It was closed while it waited: no fault of the endpoint's, and no retry for the budget.
                    fresh = true;
                    continue;
                }
                return Err(broken(outgoing, error.failure));
            }
            Err(timed_out) => return Err(Failed { failure: timed_out, again: false, blame: true }),
        };
        let answered = now();
        let answer = judge(target, response)?;
        let outcome = outcome(&answer);
        if outcome == Outcome::Good {
            // A gateway's failure comes fast; it must not make the endpoint look like the best one.
            target.memory.observe(answered.saturating_duration_since(started), answered);
        }
        note(worker, cluster, target, outcome, answered);
        call.holds(Lease { in_flight: Some(in_flight), connection: held });
        return Ok(answer);
    }
}

/// What was meant for the caller's proxy is read and removed.
fn judge(target: &Target, mut response: Response<Incoming>) -> Result<Response<Incoming>, Failed> {
    headers::well_formed(&response).map_err(|failure| Failed { failure, again: false, blame: true })?;
    let status = response.status();
    let failed = status.is_server_error() || headers::grpc_status(response.headers()).is_some();
    if failed && target.is_mtls() && response.headers().contains_key(WEFT_UNSENT) {
        let id = &target.endpoint.id;
        let detail = format!("the proxy of {id} answered {status}: its application was not reached");
        let failure = Failure::unsent(ResponseFlag::UpstreamConnectionFailure, detail);
        return Err(Failed { failure, again: true, blame: true });
    }
    headers::strip_hop_by_hop_of_response(response.headers_mut());
    Ok(response)
}

/// A gateway's failure counts against the endpoint: something in front of the application, or a part of it, is down.
fn outcome(response: &Response<Incoming>) -> Outcome {
    if matches!(response.status().as_u16(), 502..=504) { Outcome::Bad } else { Outcome::Good }
}

/// `None`: the way came into doubt, and there is another endpoint.
async fn unless_unheard<F: Future + Unpin>(
    way: Option<Rc<Way>>,
    mut sending: F,
    elsewhere: impl Fn() -> bool,
) -> Option<F::Output> {
    if let Some(way) = way {
        tokio::select! {
            biased;
            sent = &mut sending => return Some(sent),
            () = way.turns() => {}
        }
        if elsewhere() {
            return None;
        }
    }
    Some(sending.await)
}

fn unheard(target: &Target) -> Failed {
    let detail = format!("the host of {} acknowledges nothing", target.endpoint.id);
    let failure = Failure::new(ResponseFlag::UpstreamConnectionTermination, detail);
    Failed { failure, again: true, blame: false }
}

async fn within<F: Future>(limit: Duration, sending: F) -> Result<F::Output, Failure> {
    tokio::time::timeout(limit, sending).await.map_err(|_elapsed| {
        let words = format!("no response within timeouts.request ({limit:?})");
        Failure::new(ResponseFlag::UpstreamTimeout, words)
    })
}

/// A connection to the endpoint, and which form the request takes on it.
pub(super) struct Connected {
    connection: Ready,
    form: Form,
    peer: Option<std::net::SocketAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A request stream between our proxies.
    Proxy,
    /// To the application itself, in the open or inside a tunnel.
    Http1,
    Http2,
}

impl Connected {
    fn request(
        &self,
        target: &Target,
        outgoing: &Outgoing,
    ) -> Result<http::Request<crate::http::body::RequestBody>, Failure> {
        let mut request = match self.form {
            Form::Proxy => return outgoing.to_proxy(target.port.number),
            Form::Http1 => outgoing.to_http1()?,
            Form::Http2 => outgoing.to_http2()?,
        };
        if !target.is_mtls() {
            outgoing.count_hop(&mut request)?;
        }
        Ok(request)
    }
}

async fn connection(
    worker: &Worker,
    target: &Rc<Target>,
    outgoing: &Outgoing,
    fresh: bool,
) -> Result<Connected, Failed> {
    let pool = target.pool.get_or_init(|| {
        target.memory.goes(worker.pools.watch(), &target.via);
        worker.pools.of(&hop(target))
    });
    let inside;
    let pool = match &target.via {
        Via::Plaintext { .. } => pool,
        Via::Tunnel { addresses, identity } => {
            let stream = pool.http2().await.map_err(not_connected)?;
            if stream.alpn() != Alpn::Hbone {
                let peer = Some(stream.peer());
                return Ok(Connected { connection: Ready::Http2(stream), form: Form::Proxy, peer });
            }
            let Some(authority) = target.registered() else {
                return Err(not_sent(Failure::unsent(
                    ResponseFlag::NoHealthyUpstream,
                    "the endpoint has no address",
                )));
            };
            let (addresses, identity) = (addresses.clone(), identity.clone());
            inside = worker.pools.of(&Hop::Inside { addresses, identity, authority });
            &inside
        }
    };
    if speaks_http2(target, outgoing) {
        let stream = pool.http2().await.map_err(not_connected)?;
        let peer = Some(stream.peer());
        return Ok(Connected { connection: Ready::Http2(stream), form: Form::Http2, peer });
    }
    let connection = if fresh { pool.new_http1().await } else { pool.http1().await };
    let connection = connection.map_err(not_connected)?;
    Ok(Connected { connection: Ready::Http1(connection), form: Form::Http1, peer: None })
}

fn hop(target: &Target) -> Hop {
    match &target.via {
        Via::Plaintext { addresses } => Hop::Plain(addresses.clone()),
        Via::Tunnel { addresses, identity } => {
            Hop::Mesh { addresses: addresses.clone(), identity: identity.clone(), purpose: Purpose::Requests }
        }
    }
}

fn speaks_http2(target: &Target, outgoing: &Outgoing) -> bool {
    match target.protocol {
        Protocol::Http2 | Protocol::Grpc => true,
        Protocol::Http1 => false,
        Protocol::Detect | Protocol::Tcp | Protocol::Tls => outgoing.dialect == Dialect::Http2,
    }
}

fn not_connected(error: DialError) -> Failed {
    Failed { failure: error.failure(), again: true, blame: error.is_endpoints_fault() }
}

fn not_sent(failure: Failure) -> Failed {
    Failed { failure, again: false, blame: false }
}

fn broken(outgoing: &Outgoing, failure: Failure) -> Failed {
    match outgoing.body.as_ref().and_then(Replay::broken) {
        Some(Broken::Left) => {
            let detail = format!("the client broke off its request; {}", failure.detail);
            return not_sent(Failure::new(ResponseFlag::DownstreamConnectionTermination, detail));
        }
        Some(Broken::Refused(refused)) => return not_sent(Failure::malformed(refused)),
        None => {}
    }
    Failed { again: failure.unsent || outgoing.is_repeatable(), blame: true, failure }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;
    use crate::vanish::Watch;

    #[tokio::test(flavor = "local")]
    async fn a_request_leaves_a_host_that_falls_silent_only_for_another() {
        let watch = Watch::new(Duration::from_secs(1));
        let way = watch.way(&Rc::from(["127.0.0.1:1".parse().unwrap()]));
        let falls_silent = async {
            tokio::task::yield_now().await;
            way.unheard();
            pending::<()>().await
        };
        tokio::select! {
            left = unless_unheard(Some(way.clone()), pending::<()>(), || true) => assert!(left.is_none()),
            () = falls_silent => unreachable!("it never ends"),
        }
        way.heard();
        let answer = pin!(async {
            tokio::task::yield_now().await;
            way.unheard();
            tokio::task::yield_now().await;
            "late"
        });
        assert_eq!(unless_unheard(Some(way.clone()), answer, || false).await, Some("late"));
        assert_eq!(unless_unheard(None, ready("at once"), || true).await, Some("at once"));
    }
}
