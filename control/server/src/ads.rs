//! The aggregated discovery service: one delta stream a proxy, over mTLS.
//!
//! The protocol is `weft_xds::Stream`'s; here are its shell: the check that a proxy is who it says, the wait until
//! this process knows enough to answer, and the select over requests and publications. A stream is pulled by its
//! connection: nothing is spawned and nothing queued, so a slow client costs itself only. A stream ends with the
//! certificate that opened it: the proxy comes back with its renewed one; and when its client asks too much or does not
//! acknowledge (`conduct.rs`, `stalled.rs`). It does not decide what is sent.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tonic::{Code, Request, Response, Status, Streaming};
use weft_ca::transport::{InUse, PeerIdentity};
use weft_ca::{Full, Place, Shares};
use weft_model::SpiffeId;
use weft_proto::discovery::aggregated_discovery_service_server::AggregatedDiscoveryService;
use weft_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use weft_xds::{Stream, StreamSettings};

use crate::conduct::{Conduct, TooFast};
use crate::counters::Counters;
use crate::expelled::Expelled;
use crate::proxies::{Presence, Proxies, SharedStream, lock};
use crate::publish::Publication;
use crate::readiness::{Phase, stopping};
use crate::settings::LimitSettings;
use crate::stalled::{Stalled, Watch};

/// The service; a clone serves the same.
#[derive(Clone)]
pub(crate) struct Ads {
    pub(crate) state: watch::Receiver<Arc<Publication>>,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) proxies: Proxies,
    pub(crate) counters: Arc<Counters>,
    /// Room for streams: `limits.streams`, `limits.streams_per_identity`.
    pub(crate) room: Shares<SpiffeId>,
    pub(crate) limits: LimitSettings,
    pub(crate) stalled: Stalled,
    pub(crate) expelled: Expelled,
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
        let in_use = peer.connection.begin();
        let Some(id) = peer.id.clone() else {
            tracing::warn!(remote = %peer.remote, "a stream without client certificate was refused");
            return Err(self.refuse(
                "no_certificate",
                Status::unauthenticated("a client certificate of the mesh is needed"),
            ));
        };
        let until = lapses(&peer, SystemTime::now());
        if until.is_some_and(|until| until <= Instant::now()) {
            return Err(self.refuse("certificate_over", lapsed()));
        }
        let place = self.place(&peer, id)?;
        self.counters.streams.add(1);
        // Boxed: it goes from step to step by value.
        let session = Session::new(self.clone(), peer, until, (place, in_use), request.into_inner());
        let session = Box::new(session);
        Ok(Response::new(stream::unfold(session, Session::step).boxed()))
    }
}

impl Ads {
    /// A place for one more stream on this connection.
    fn place(&self, peer: &PeerIdentity, id: SpiffeId) -> Result<Place<SpiffeId>, Status> {
        let remote = peer.remote;
        if !self.expelled.may_return(peer) {
            let message = "streams of this client were ended for its errors too often; come back later";
            return Err(self.refuse("expelled_before", Status::resource_exhausted(message)));
        }
        if !peer.connection.may_open() {
            tracing::warn!(%remote, %id, "a connection is ended: it opens streams all the time");
            peer.connection.close();
            return Err(
                self.refuse("too_fast", Status::resource_exhausted("too many streams in a short time"))
            );
        }
        self.room.enter(id.clone()).map_err(|full| match full {
            Full::Total => {
                tracing::warn!(%remote, %id, "a stream was refused: limits.streams are open");
                let message = "this control plane has as many streams as limits.streams allows";
                self.refuse("too_many_streams", Status::resource_exhausted(message))
            }
            Full::Share => {
                tracing::warn!(%remote, %id, "a stream was refused: its identity has limits.streams_per_identity");
                let message = "this identity has as many streams as limits.streams_per_identity allows";
                self.refuse("too_many_of_identity", Status::resource_exhausted(message))
            }
        })
    }

    /// As `refuse`, and it is remembered who it was.
    fn expel(&self, peer: &PeerIdentity, reason: &'static str, status: Status) -> Status {
        self.expelled.note(peer);
        self.refuse(reason, status)
    }

    /// Counts and hands on.
    fn refuse(&self, reason: &'static str, status: Status) -> Status {
        self.counters.refused_streams.add(reason);
        status
    }
}

/// One proxy's stream with its surroundings.
struct Session {
    ads: Ads,
    peer: PeerIdentity,
    /// When the certificate that opened it is over.
    until: Option<Instant>,
    /// When to see whether the stream's time has come. It is set anew when it fires, and not each time the end moves: a
    /// stream steps often and ends seldom.
    alarm: Pin<Box<Sleep>>,
    /// Polled for the stream's whole life, for the same reason.
    stopping: BoxFuture<'static, ()>,
    /// Its place among the streams there may be, and its connection's mark of being in use.
    _place: (Place<SpiffeId>, InUse),
    conduct: Conduct,
    watch: Watch,
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
        place: (Place<SpiffeId>, InUse),
        requests: Streaming<DeltaDiscoveryRequest>,
    ) -> Self {
        let stream = Arc::new(Mutex::new(Stream::new(StreamSettings::default())));
        let limits = &ads.limits;
        let now = Instant::now();
        let conduct = Conduct::new(limits.requests, limits.ack_timeout, now);
        let watch = ads.stalled.watch(peer.connection.clone());
        // Until it is pulled the first time: who opens a stream and gives it no window is not there.
        watch.expect_by(Some(now + limits.ack_timeout));
        let mut phase = ads.phase.clone();
        Self {
            ads,
            peer,
            until,
            alarm: Box::pin(sleep_until(now + SELDOM)),
            stopping: Box::pin(async move { stopping(&mut phase).await }),
            _place: place,
            conduct,
            watch,
            requests,
            stream,
            presence: None,
            ready: VecDeque::new(),
            converging: None,
            ended: false,
        }
    }

    /// The next response and the session after it; `None` when the stream is over.
    async fn step(mut self: Box<Self>) -> Option<(Result<DeltaDiscoveryResponse, Status>, Box<Self>)> {
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
            self.wait_until_serving().await?;
            // A connection that says nothing is not kept.
            let Ok(request) = timeout(FIRST_REQUEST, self.requests.message()).await else {
                let status = Status::deadline_exceeded("no request came on the new stream");
                return Err(self.ads.expel(&self.peer, "no_request", status));
            };
            let Some(request) = self.readable(request)? else { return Ok(None) };
            self.on_request(request)?;
        }
        loop {
            if let Some(response) = self.ready.pop_front() {
                self.hand_out(&response);
                return Ok(Some(response));
            }
            let overdue = self.conduct.overdue();
            if let Some(end) = overdue.into_iter().chain(self.until).min()
                && end < self.alarm.deadline()
            {
                self.alarm.as_mut().reset(end);
            }
            self.expect_life();
            tokio::select! {
                request = self.requests.message() => match self.readable(request)? {
                    Some(request) => self.on_request(request)?,
                    None => return Ok(None),
                },
                changed = self.ads.state.changed() => match changed {
                    Ok(()) => self.on_publication(),
                    Err(_) => return Err(going_away()),
                },
                () = &mut self.stopping => return Err(going_away()),
                () = self.alarm.as_mut() => self.on_alarm(Instant::now())?,
            }
        }
    }

    /// Ends the stream, or sets the alarm for when that may be due.
    fn on_alarm(&mut self, now: Instant) -> Result<(), Status> {
        let overdue = self.conduct.overdue();
        match overdue.into_iter().chain(self.until).min() {
            Some(end) if end <= now => return Err(self.outlived(overdue)),
            Some(end) => self.alarm.as_mut().reset(end),
            None => self.alarm.as_mut().reset(now + SELDOM),
        }
        Ok(())
    }

    /// Why a stream ends whose time has come.
    fn outlived(&self, overdue: Option<Instant>) -> Status {
        if overdue.is_some_and(|overdue| self.until.is_none_or(|until| overdue <= until)) {
            tracing::warn!(proxy = self.name(), "a stream was ended: what it was sent is not acknowledged");
            let status = Status::deadline_exceeded("a response was not acknowledged in time");
            return self.ads.expel(&self.peer, "not_acknowledged", status);
        }
        tracing::info!(proxy = self.name(), "a stream is ended: its client certificate has expired");
        lapsed()
    }

    fn on_request(&mut self, request: DeltaDiscoveryRequest) -> Result<(), Status> {
        let acknowledges = self.conduct.asked(&request, Instant::now()).map_err(|TooFast| {
            tracing::warn!(proxy = self.name(), "a stream was ended: it asks more than limits.requests");
            self.ads.expel(
                &self.peer,
                "too_fast",
                Status::resource_exhausted("more requests than limits.requests allows"),
            )
        })?;
        // Of what was not sent there is nothing to acknowledge: it neither counts nor fills the log.
        match &request.error_detail {
            _ if !acknowledges => {}
            None => self.ads.counters.acks.add(1),
            Some(detail) => {
                self.ads.counters.nacks.add(1);
                let message: String = detail.message.chars().take(512).filter(|c| !c.is_control()).collect();
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
            tracing::warn!(proxy = self.name(), %error, "a stream was ended");
            let code = Code::from(error.code());
            let reason = if code == Code::ResourceExhausted { "limit" } else { "protocol" };
            self.ads.expel(&self.peer, reason, Status::new(code, error.to_string()))
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
        if self.converging.is_some() && self.ready.is_empty() && lock(&self.stream).in_sync() {
            let since = self.converging.take();
            since.into_iter().for_each(|since| self.ads.counters.convergence.observe(since.elapsed()));
        }
    }

    /// A proxy is who its certificate says: nobody gets another's place.
    fn admit(&self) -> Result<Presence, Status> {
        let node = lock(&self.stream).node().cloned();
        let Some(node) = node else { return Err(Status::invalid_argument("the request has no node")) };
        if self.peer.id.as_ref() != Some(node.spiffe_id()) {
            let proved = self.peer.id.as_ref().map(ToString::to_string).unwrap_or_default();
            tracing::warn!(remote = %self.peer.remote, proved, said = %node, "a proxy says that it is another");
            let status = Status::permission_denied("node.id is not of the client certificate's identity");
            return Err(self.ads.expel(&self.peer, "another_identity", status));
        }
        tracing::info!(proxy = %node, remote = %self.peer.remote, "a proxy is connected");
        Ok(self.ads.proxies.enter(node, &self.peer, Arc::clone(&self.stream)))
    }

    fn name(&self) -> String {
        lock(&self.stream).node().map_or_else(|| self.peer.remote.to_string(), ToString::to_string)
    }

    /// A request, unless what came can't be one.
    fn readable(
        &self,
        request: Result<Option<DeltaDiscoveryRequest>, Status>,
    ) -> Result<Option<DeltaDiscoveryRequest>, Status> {
        request.inspect_err(|status| match status.code() {
            // The client went away, or its connection did.
            Code::Cancelled | Code::Unknown | Code::Unavailable => {}
            _ => {
                self.ads.counters.refused_streams.add("message");
                self.ads.expelled.note(&self.peer);
                tracing::warn!(proxy = self.name(), %status, "a stream was ended: a request can't be read");
            }
        })
    }

    /// Until when this stream has to be looked at again.
    fn expect_life(&self) {
        self.watch.expect_by(self.conduct.overdue().into_iter().chain(self.until).min());
    }

    /// A process that has not heard all its registries would say that services are gone which are there.
    async fn wait_until_serving(&mut self) -> Result<(), Status> {
        let Self { ads: Ads { phase, limits, .. }, watch, .. } = self;
        loop {
            watch.expect_by(Some(Instant::now() + limits.ack_timeout));
            tokio::select! {
                waited = phase.wait_for(|phase| *phase != Phase::Starting) => {
                    return match waited.map(|phase| *phase) {
                        Ok(Phase::Serving) => Ok(()),
                        _ => Err(going_away()),
                    };
                }
                () = sleep(limits.ack_timeout / 2) => {}
            }
        }
    }

    fn hand_out(&mut self, response: &DeltaDiscoveryResponse) {
        self.conduct.sent(response, Instant::now());
        self.expect_life();
        self.ads.counters.responses.add(1);
        self.ads.counters.resources.add(response.resources.len());
        self.ads.counters.removals.add(response.removed_resources.len());
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

fn lapsed() -> Status {
    Status::unauthenticated(
        "the client certificate of this connection has expired; connect with the renewed one",
    )
}

/// For clocks that differ a little. A proxy renews long before, so that it has another certificate by then.
const GRACE: Duration = Duration::from_secs(5);
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// The alarm of a stream that nothing ends.
const SELDOM: Duration = Duration::from_secs(3600);
