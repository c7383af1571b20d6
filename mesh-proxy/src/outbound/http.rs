//! One HTTP request of the local application: route, pick, forward, answer.
//!
//! Whatever happens the application gets a response, and telemetry gets one record at the response's true end.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use http::{Method, Request, Response};
use http_body::Body;
use weft_http::Refused;

use crate::balance::cluster::{Cluster, Wanted};
use crate::demand::Answer;
use crate::http::body::ResponseBody;
use crate::http::call::Call;
use crate::http::failure::Failure;
use crate::http::headers::{self, WEFT_STATUS};
use crate::http::incoming::Incoming;
use crate::http::outgoing::{Dialect, Outgoing};
use crate::http::replay::Replay;
use crate::http::serve::{Service, unread};
use crate::http::upgrade::{Answered, Asker, Switching, answer, splice};
use crate::outbound::{attempt, connect};
use crate::record::{Record, Reporter, RequestProtocol, ResponseFlag};
use crate::route;
use crate::settings::PortRef;
use crate::worker::{Guard, Worker};

/// What a connection's requests have in common.
pub(crate) struct Origin {
    pub(super) worker: Rc<Worker>,
    /// The upstream's; `None` on the HTTP port.
    pub(super) cluster: Option<Rc<Cluster>>,
    pub(super) peer: SocketAddr,
    /// Held by upgraded connections beyond the end of HTTP.
    pub(super) guard: Rc<Guard>,
}

impl Origin {
    pub(super) fn new(
        worker: Rc<Worker>,
        cluster: Option<Rc<Cluster>>,
        peer: SocketAddr,
        guard: Guard,
    ) -> Self {
        Self { worker, cluster, peer, guard: Rc::new(guard) }
    }
}

impl Service for Rc<Origin> {
    fn answer(self, request: Request<Incoming>) -> impl Future<Output = Response<ResponseBody>> + 'static {
        serve(self, request)
    }

    fn refuse(&self, refused: Refused) -> Response<ResponseBody> {
        let mut call = Call::new(self.worker.ledger.clone(), record(self, &mut unread(), false));
        let failure = Failure::malformed(refused);
        self.worker.malformed(&failure, self.peer);
        call.failed(&failure);
        let response = failure.to_application(false);
        call.answered(response.status(), response.headers());
        response.map(|body| body.with_call(call))
    }

    fn malformed(&self, refused: Refused) {
        self.worker.malformed(&Failure::malformed(refused), self.peer);
    }
}

/// Serves one request.
pub(super) async fn serve(origin: Rc<Origin>, mut request: Request<Incoming>) -> Response<ResponseBody> {
    let grpc = headers::is_grpc(request.headers());
    let mut call = Call::new(origin.worker.ledger.clone(), record(&origin, &mut request, grpc));
    let answered = match respond(&origin, request, &mut call).await {
        Ok(Answered::Http(response)) => response,
        Ok(Answered::Switched { response, endpoint, client }) => {
            call.answered(response.status(), response.headers());
            let idle = origin.worker.shared.settings.timeouts.idle;
            splice(client, endpoint, idle, call, origin.guard.clone());
            return response;
        }
        Err(failure) => {
            call.failed(&failure);
            origin.worker.malformed(&failure, origin.peer);
            failure.to_application(grpc)
        }
    };
    call.answered(answered.status(), answered.headers());
    answered.map(|body| body.with_call(call))
}

async fn respond(
    origin: &Origin,
    mut request: Request<Incoming>,
    call: &mut Call,
) -> Result<Answered, Failure> {
    call.admitted(origin.worker.admit(&origin.guard)?);
    let client = Switching::of(&mut request);
    let (head, body) = request.into_parts();
    let plain_connect =
        head.method == Method::CONNECT && head.extensions.get::<hyper::ext::Protocol>().is_none();
    let fallback = origin.cluster.as_ref().map_or("", |cluster| cluster.wanted.service.name.as_str());
    let mut outgoing = Outgoing::new(head, fallback).map_err(Failure::malformed)?;
    let cluster = match &origin.cluster {
        Some(cluster) => cluster.clone(),
        None => by_host(&origin.worker, outgoing.authority())?,
    };
    known(&origin.worker, &cluster).await?;
    if plain_connect {
        // Boxed, as what is rare and large elsewhere: every request's future would be as large.
        return Box::pin(connect::tunnel(origin, &cluster, &outgoing, client, call)).await;
    }
    if !body.is_end_stream() {
        // RFC 9110 7.8 lets a proxy ignore the wish to switch; a body could not be carried along.
        outgoing.upgrade = None;
        let replay = Replay::new(body);
        call.counts(replay.share());
        outgoing.body = Some(replay);
    }
    let response = attempt::forward(&origin.worker, &cluster, &outgoing, call).await?;
    if let Some(body) = &outgoing.body {
        body.settle();
    }
    if let Some(token) = &outgoing.upgrade {
        let asker = if outgoing.dialect == Dialect::Http2 { Asker::Http2 } else { Asker::Http1 };
        return Ok(answer(asker, token, response, client));
    }
    let mut response = response;
    // Only an answer to an upgrade has one.
    response.headers_mut().remove(WEFT_STATUS);
    Ok(Answered::Http(response.map(ResponseBody::incoming)))
}

/// Follows the configuration, and says what is wrong with a service that is not there.
async fn known(worker: &Worker, cluster: &Cluster) -> Result<(), Failure> {
    let name = &cluster.wanted.service;
    match worker.find(cluster).await {
        Answer::Present(_) => Ok(()),
        Answer::Absent => {
            Err(Failure::unsent(ResponseFlag::NoRoute, format!("there is no service {name} in the mesh")))
        }
        Answer::Unknown => Err(Failure::unsent(
            ResponseFlag::NoHealthyUpstream,
            format!("nothing is known of service {name} yet: the control plane has not answered"),
        )),
    }
}

fn by_host(worker: &Worker, authority: &str) -> Result<Rc<Cluster>, Failure> {
    let named = route::service_of_authority(authority, &worker.own_namespace()).ok_or_else(|| {
        let words = format!(
            "{authority:?} names no service of the mesh; name, name.namespace and name.namespace.mesh do"
        );
        Failure::unsent(ResponseFlag::NoRoute, words)
    })?;
    let own = worker.shared.bound.http.map(|address| address.port());
    // The port of the HTTP port itself and HTTP's default say nothing about the service's.
    let port = named.port.filter(|port| Some(*port) != own && *port != 80).map(PortRef::Number);
    let plaintext = worker.shared.settings.http.as_ref().is_some_and(|http| http.plaintext);
    Ok(worker.cluster(&Wanted { service: named.service, at: None, port, protocol: None, plaintext }))
}

fn record(origin: &Origin, request: &mut Request<Incoming>, grpc: bool) -> Record {
    let protocol = match request.version() {
        _ if grpc => RequestProtocol::Grpc,
        http::Version::HTTP_2 => RequestProtocol::Http2,
        _ => RequestProtocol::Http1,
    };
    let authority = headers::authority(request.uri(), request.headers());
    // Made before anything is sent, so that failures have one too.
    let request_id = headers::request_id(request.headers_mut());
    Record {
        reporter: Reporter::Source,
        started: SystemTime::now(),
        duration: Duration::ZERO,
        method: request.method().clone(),
        uri: request.uri().clone(),
        authority,
        request_id,
        user_agent: request.headers().get(http::header::USER_AGENT).cloned(),
        protocol,
        status: 0,
        grpc_status: None,
        flag: None,
        detail: String::new(),
        source: origin.worker.own_id(),
        destination: None,
        upstream: None,
        downstream: Some(origin.peer),
        bytes_received: 0,
        bytes_sent: 0,
        retries: 0,
        mtls: None,
    }
}
