//! One stream from a caller: a request, an upgrade or opaque bytes for the local application.
//!
//! The caller's proxy names the registered port in `weft-port`; a plaintext caller's port is the listener's. What reaches
//! the application carries the caller's identity in `x-forwarded-client-cert` and nothing else of ours.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use ::http::{HeaderMap, HeaderValue, Method, Request, Response, Version};
use http_body::Body;
use weft_http::Refused;
use weft_model::Protocol;

use crate::http::body::ResponseBody;
use crate::http::call::Call;
use crate::http::failure::Failure;
use crate::http::headers::{self, WEFT_METHOD, WEFT_PORT, WEFT_PROTO, XFCC};
use crate::http::incoming::Incoming;
use crate::http::outgoing::{Dialect, Outgoing};
use crate::http::replay::{Broken, Replay};
use crate::http::send::Ready;
use crate::http::serve::{Service, unread};
use crate::http::upgrade::{Answered, Asker, Switching, answer, splice};
use crate::inbound::{Connection, Port, bytes};
use crate::pool::Lease;
use crate::record::{Record, Reporter, RequestProtocol, ResponseFlag};

/// The streams of one connection. `fixed` is the port of a plaintext listener.
#[derive(Clone)]
pub(super) struct Streams {
    pub(super) connection: Rc<Connection>,
    pub(super) fixed: Option<Rc<Port>>,
}

impl Service for Streams {
    fn answer(self, request: Request<Incoming>) -> impl Future<Output = Response<ResponseBody>> + 'static {
        serve(self.connection, self.fixed, request)
    }

    fn refuse(&self, refused: Refused) -> Response<ResponseBody> {
        let connection = &self.connection;
        let record = record(connection, &unread(), Kind::Request, false);
        let mut call = Call::new(connection.worker.ledger.clone(), record);
        let failure = Failure::malformed(refused);
        connection.worker.malformed(&failure, connection.peer);
        call.failed(&failure);
        let response = failure.to_stranger(false);
        call.answered(response.status(), response.headers());
        response.map(|body| body.with_call(call))
    }

    fn malformed(&self, refused: Refused) {
        self.connection.worker.malformed(&Failure::malformed(refused), self.connection.peer);
    }
}

/// Serves one stream.
pub(super) async fn serve(
    connection: Rc<Connection>,
    fixed: Option<Rc<Port>>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let grpc = headers::is_grpc(request.headers());
    let kind = Kind::of(&request);
    let mut call = Call::new(connection.worker.ledger.clone(), record(&connection, &request, kind, grpc));
    let answered = match respond(&connection, fixed, kind, request, &mut call).await {
        Ok(Answered::Http(response)) => response,
        Ok(Answered::Switched { response, client, endpoint }) => {
            call.answered(response.status(), response.headers());
            let idle = connection.worker.shared.settings.timeouts.idle;
            splice(client, endpoint, idle, call, connection.guard.clone());
            return response;
        }
        Err(failure) => {
            call.failed(&failure);
            connection.worker.malformed(&failure, connection.peer);
            if connection.caller.is_some() { failure.to_peer(grpc) } else { failure.to_stranger(grpc) }
        }
    };
    call.answered(answered.status(), answered.headers());
    answered.map(|body| body.with_call(call))
}

/// What a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Request,
    /// Extended CONNECT.
    Upgrade,
    /// CONNECT.
    Bytes,
}

impl Kind {
    fn of(request: &Request<Incoming>) -> Self {
        match request.method() == Method::CONNECT {
            false => Self::Request,
            true if request.extensions().get::<hyper::ext::Protocol>().is_some() => Self::Upgrade,
            true => Self::Bytes,
        }
    }
}

async fn respond(
    connection: &Connection,
    fixed: Option<Rc<Port>>,
    kind: Kind,
    mut request: Request<Incoming>,
    call: &mut Call,
) -> Result<Answered, Failure> {
    connection.authorize()?;
    call.admitted(connection.worker.admit(&connection.guard)?);
    let client = Switching::of(&mut request);
    if kind == Kind::Bytes {
        // Boxed: every request's future would be as large.
        return Box::pin(bytes::tunnel(connection, fixed, request.uri(), client, call)).await;
    }
    if !connection.requests {
        let words = "this connection speaks HBONE (ALPN h2), which carries CONNECT only";
        return Err(Failure::unsent(ResponseFlag::DownstreamProtocolError, words));
    }
    let from_proxy = fixed.is_none();
    let port = match fixed {
        Some(port) => port,
        None => connection.port(named_port(request.headers())?)?,
    };
    call.record.destination = Some(port.destination.clone());
    call.record.upstream = Some(port.app);
    let (outgoing, asker) = outgoing(connection, from_proxy, request, call)?;
    let response = to_application(connection, &port, &outgoing, call).await?;
    if let Some(body) = &outgoing.body {
        body.settle();
    }
    Ok(match &outgoing.upgrade {
        Some(token) => answer(asker, token, response, client),
        None => Answered::Http(response.map(ResponseBody::incoming)),
    })
}

fn named_port(headers: &HeaderMap) -> Result<u16, Failure> {
    let named = headers.get(WEFT_PORT).and_then(headers::number);
    named.ok_or_else(|| {
        Failure::unsent(ResponseFlag::NoRoute, "the request names no port of this workload (weft-port)")
    })
}

/// What is sent on, and who asks if it is an upgrade.
fn outgoing(
    connection: &Connection,
    from_proxy: bool,
    request: Request<Incoming>,
    call: &mut Call,
) -> Result<(Outgoing, Asker), Failure> {
    let (mut head, body) = request.into_parts();
    let told = from_proxy.then(|| (head.headers.remove(WEFT_PROTO), head.headers.remove(WEFT_METHOD)));
    head.headers.remove(XFCC);
    if let Some(xfcc) = &connection.xfcc {
        head.headers.insert(XFCC, xfcc.clone());
    }
    let mut outgoing = Outgoing::new(head, "localhost").map_err(Failure::malformed)?;
    let asker = match (&told, outgoing.dialect) {
        (Some(_), _) => Asker::Proxy,
        (None, Dialect::Http1) => Asker::Http1,
        (None, Dialect::Http2) => Asker::Http2,
    };
    if let Some((proto, method)) = told {
        outgoing.told(proto.as_ref(), method.as_ref());
    }
    if !body.is_end_stream() && outgoing.method != Method::CONNECT {
        if asker == Asker::Http1 {
            outgoing.upgrade = None;
        }
        let replay = Replay::new(body);
        call.counts(replay.share());
        outgoing.body = Some(replay);
    }
    Ok((outgoing, asker))
}

async fn to_application(
    connection: &Connection,
    port: &Port,
    outgoing: &Outgoing,
    call: &mut Call,
) -> Result<Response<Incoming>, Failure> {
    let pool = port.pool(&connection.worker.pools);
    let http2 = match port.protocol {
        Protocol::Http2 | Protocol::Grpc => true,
        Protocol::Http1 => false,
        Protocol::Detect | Protocol::Tcp | Protocol::Tls => outgoing.dialect == Dialect::Http2,
    };
    let mut fresh = false;
    loop {
        let (ready, request) = if http2 {
            (Ready::Http2(pool.http2().await.map_err(|error| error.failure())?), outgoing.to_http2()?)
        } else {
            let taken = if fresh { pool.new_http1().await } else { pool.http1().await };
            (Ready::Http1(taken.map_err(|error| error.failure())?), outgoing.to_http1()?)
        };
        match ready.send(request).await {
            Ok((mut response, held)) => {
                headers::well_formed(&response)?;
                call.holds(Lease { in_flight: None, connection: held });
                headers::strip_hop_by_hop(response.headers_mut());
                headers::strip_weft(response.headers_mut());
                return Ok(response);
            }
            // The application closed it while it waited in the pool: nothing was lost, a new one is tried once.
            Err(error) if error.reused && !fresh && (error.failure.unsent || outgoing.is_repeatable()) => {
                fresh = true
            }
            Err(error) => return Err(from_application(outgoing, error.failure)),
        }
    }
}

fn from_application(outgoing: &Outgoing, failure: Failure) -> Failure {
    match outgoing.body.as_ref().and_then(Replay::broken) {
        Some(Broken::Left) => {
            let detail = format!("the caller broke off its request; {}", failure.detail);
            Failure::new(ResponseFlag::DownstreamConnectionTermination, detail)
        }
        Some(Broken::Refused(refused)) => Failure::malformed(refused),
        None => failure,
    }
}

fn record(connection: &Connection, request: &Request<Incoming>, kind: Kind, grpc: bool) -> Record {
    let told = request.headers().get(WEFT_PROTO).map(HeaderValue::as_bytes);
    let protocol = match (kind, told) {
        (Kind::Bytes, _) => RequestProtocol::Tcp,
        _ if grpc => RequestProtocol::Grpc,
        (_, Some(b"h1")) => RequestProtocol::Http1,
        (_, Some(_)) => RequestProtocol::Http2,
        (_, None) if request.version() == Version::HTTP_2 => RequestProtocol::Http2,
        (_, None) => RequestProtocol::Http1,
    };
    Record {
        reporter: Reporter::Destination,
        started: SystemTime::now(),
        duration: Duration::ZERO,
        method: request.method().clone(),
        uri: request.uri().clone(),
        authority: headers::authority(request.uri(), request.headers()),
        request_id: request.headers().get(headers::X_REQUEST_ID).cloned(),
        user_agent: request.headers().get(::http::header::USER_AGENT).cloned(),
        protocol,
        status: 0,
        grpc_status: None,
        flag: None,
        detail: String::new(),
        source: connection.caller.as_ref().map(|caller| caller.id.clone()),
        destination: None,
        upstream: None,
        downstream: Some(connection.peer),
        bytes_received: 0,
        bytes_sent: 0,
        retries: 0,
        mtls: Some(connection.caller.is_some()),
    }
}
