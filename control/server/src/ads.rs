//! The aggregated discovery service: one delta stream a proxy, over mTLS.
//!
//! The protocol is `weft_xds::Stream`'s; here are its shell: the check that a proxy is who it says, the wait until
//! this process knows enough to answer, and the select over requests and publications. A stream is pulled by its
//! connection: nothing is spawned and nothing queued, so a slow client costs itself only. A stream ends with the
//! certificate that opened it: the proxy comes back with its renewed one. It does not decide what is sent.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Code, Request, Response, Status, Streaming};
use weft_ca::transport::PeerIdentity;
use weft_proto::discovery::aggregated_discovery_service_server::AggregatedDiscoveryService;
use weft_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use weft_xds::{Stream, StreamSettings};

use crate::counters::Counters;
use crate::proxies::{Presence, Proxies, SharedStream, lock};
use crate::publish::Publication;
use crate::readiness::{Phase, stopping};

/// The service; a clone serves the same.
#[derive(Clone)]
pub(crate) struct Ads {
    pub(crate) state: watch::Receiver<Arc<Publication>>,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) proxies: Proxies,
    pub(crate) counters: Arc<Counters>,
    /// Room for streams: `limits.streams`.
    pub(crate) room: Arc<Semaphore>,
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type DeltaAggregatedResourcesStream = BoxStream<'static, Result<DeltaDiscoveryResponse, Status>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let Some(peer) = request.extensions().get::<PeerIdentity>().cloned() else {
            return Err(Status::internal("the connection has no peer"));
        };
        if peer.id.is_none() {
            self.counters.refused_streams.add(1);
            tracing::warn!(remote = %peer.remote, "a stream without client certificate was refused");
            return Err(Status::unauthenticated("a client certificate of the mesh is needed"));
        }
        let until = lapses(&peer, SystemTime::now());
        if until.is_some_and(|until| until <= Instant::now()) {
            self.counters.refused_streams.add(1);
            return Err(lapsed());
        }
        let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else {
            self.counters.refused_streams.add(1);
            tracing::warn!(remote = %peer.remote, "a stream was refused: limits.streams are open");
            return Err(Status::resource_exhausted(
                "this control plane has as many streams as limits.streams allows",
            ));
        };
        self.counters.streams.add(1);
        let session = Session::new(self.clone(), peer, until, permit, request.into_inner());
        Ok(Response::new(stream::unfold(session, Session::step).boxed()))
    }
}

/// One proxy's stream with its surroundings.
struct Session {
    ads: Ads,
    peer: PeerIdentity,
    /// When the certificate that opened it is over.
    until: Option<Instant>,
    /// Its place among the streams there may be.
    _permit: OwnedSemaphorePermit,
    requests: Streaming<DeltaDiscoveryRequest>,
    stream: SharedStream,
    /// Set once the proxy has said who it is, and is.
    presence: Option<Presence>,
    /// Responses of one step; at most one a type, as the stream has no more in flight.
    ready: VecDeque<DeltaDiscoveryResponse>,
    /// The arrival of the oldest change that the proxy has not acknowledged.
    converging: Option<Instant>,
    ended: bool,
}

impl Session {
    fn new(
        ads: Ads,
        peer: PeerIdentity,
        until: Option<Instant>,
        permit: OwnedSemaphorePermit,
        requests: Streaming<DeltaDiscoveryRequest>,
    ) -> Self {
        let stream = Arc::new(Mutex::new(Stream::new(StreamSettings::default())));
        Self {
            ads,
            peer,
            until,
            _permit: permit,
            requests,
            stream,
            presence: None,
            ready: VecDeque::new(),
            converging: None,
            ended: false,
        }
    }

    /// The next response and the session after it; `None` when the stream is over.
    async fn step(mut self) -> Option<(Result<DeltaDiscoveryResponse, Status>, Self)> {
        if self.ended {
            return None;
        }
        match self.next().await {
            Ok(Some(response)) => Some((Ok(response), self)),
            Ok(None) => None,
            Err(status) => {
                self.ended = true;
                Some((Err(status), self))
            }
        }
    }

    async fn next(&mut self) -> Result<Option<DeltaDiscoveryResponse>, Status> {
        if self.presence.is_none() {
            wait_until_serving(&mut self.ads.phase).await?;
            // A connection that says nothing is not kept.
            let Ok(request) = timeout(FIRST_REQUEST, self.requests.message()).await else {
                return Err(Status::deadline_exceeded("no request came on the new stream"));
            };
            let Some(request) = request? else { return Ok(None) };
            self.on_request(request)?;
        }
        loop {
            if let Some(response) = self.ready.pop_front() {
                self.count(&response);
                return Ok(Some(response));
            }
            tokio::select! {
                request = self.requests.message() => match request? {
                    Some(request) => self.on_request(request)?,
                    None => return Ok(None),
                },
                changed = self.ads.state.changed() => match changed {
                    Ok(()) => self.on_publication(),
                    Err(_) => return Err(going_away()),
                },
                () = stopping(&mut self.ads.phase) => return Err(going_away()),
                () = over(self.until) => {
                    tracing::info!(proxy = self.name(), "a stream is ended: its client certificate has expired");
                    return Err(lapsed());
                }
            }
        }
    }

    fn on_request(&mut self, request: DeltaDiscoveryRequest) -> Result<(), Status> {
        match (request.response_nonce.is_empty(), &request.error_detail) {
            (true, _) => {}
            (false, None) => self.ads.counters.acks.add(1),
            (false, Some(detail)) => {
                self.ads.counters.nacks.add(1);
                let message: String = detail.message.chars().filter(|c| !c.is_control()).take(512).collect();
                tracing::warn!(
                    proxy = self.name(),
                    kind = request.type_url,
                    message,
                    "a proxy refused a resource"
                );
            }
        }
        let publication = Arc::clone(&self.ads.state.borrow_and_update());
        let responses = lock(&self.stream).on_request(request, &publication.resources);
        let responses = responses.map_err(|error| {
            self.ads.counters.refused_streams.add(1);
            tracing::warn!(proxy = self.name(), %error, "a stream was ended");
            Status::new(Code::from(error.code()), error.to_string())
        })?;
        if self.presence.is_none() {
            self.presence = Some(self.admit()?);
        }
        self.take(responses);
        Ok(())
    }

    fn on_publication(&mut self) {
        let publication = Arc::clone(&self.ads.state.borrow_and_update());
        let responses = lock(&self.stream).on_published(&publication.resources);
        if !responses.is_empty() {
            self.converging.get_or_insert(publication.since);
        }
        self.take(responses);
    }

    fn take(&mut self, responses: Vec<DeltaDiscoveryResponse>) {
        self.ready.extend(responses);
        // The status is made only while something is measured.
        if self.converging.is_some() && self.ready.is_empty() && lock(&self.stream).status().in_sync {
            let since = self.converging.take();
            since.into_iter().for_each(|since| self.ads.counters.convergence.observe(since.elapsed()));
        }
    }

    /// A proxy is who its certificate says: nobody gets another's place.
    fn admit(&self) -> Result<Presence, Status> {
        let node = lock(&self.stream).node().cloned();
        let Some(node) = node else { return Err(Status::invalid_argument("the request has no node")) };
        if self.peer.id.as_ref() != Some(node.spiffe_id()) {
            self.ads.counters.refused_streams.add(1);
            let proved = self.peer.id.as_ref().map(ToString::to_string).unwrap_or_default();
            tracing::warn!(remote = %self.peer.remote, proved, said = %node, "a proxy says that it is another");
            return Err(Status::permission_denied("node.id is not of the client certificate's identity"));
        }
        tracing::info!(proxy = %node, remote = %self.peer.remote, "a proxy is connected");
        Ok(self.ads.proxies.enter(node, self.peer.remote, Arc::clone(&self.stream)))
    }

    fn name(&self) -> String {
        lock(&self.stream).node().map_or_else(|| self.peer.remote.to_string(), ToString::to_string)
    }

    fn count(&self, response: &DeltaDiscoveryResponse) {
        self.ads.counters.responses.add(1);
        self.ads.counters.resources.add(response.resources.len());
        self.ads.counters.removals.add(response.removed_resources.len());
    }
}

/// A process that has not heard all its registries would say that services are gone which are there.
async fn wait_until_serving(phase: &mut watch::Receiver<Phase>) -> Result<(), Status> {
    match phase.wait_for(|phase| *phase != Phase::Starting).await.map(|phase| *phase) {
        Ok(Phase::Serving) => Ok(()),
        _ => Err(going_away()),
    }
}

fn going_away() -> Status {
    Status::unavailable("this control plane is shutting down")
}

/// When streams of this peer end, on the clock that nobody sets back.
fn lapses(peer: &PeerIdentity, now: SystemTime) -> Option<Instant> {
    let end = peer.not_after? + GRACE;
    Some(Instant::now() + end.duration_since(now).unwrap_or_default())
}

async fn over(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

fn lapsed() -> Status {
    Status::unauthenticated(
        "the client certificate of this connection has expired; connect with the renewed one",
    )
}

/// For clocks that differ a little. A proxy renews long before, so that it has another certificate by then.
const GRACE: Duration = Duration::from_secs(5);
const FIRST_REQUEST: Duration = Duration::from_secs(10);
