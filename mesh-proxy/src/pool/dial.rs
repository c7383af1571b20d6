//! Opens connections: TCP, TLS where the hop has it, and for HTTP/2 its handshake; then its task runs on this worker.
//!
//! Every failure here comes before anything of a request was sent, so each may be tried again elsewhere.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use http::{Request, StatusCode, Uri};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use weft_http::http2::Side;
use weft_model::SpiffeId;

use crate::http::body::RequestBody;
use crate::http::call::chain;
use crate::http::failure::Failure;
use crate::http::gathered::Gathered;
use crate::http::http1::Inbox;
use crate::http::http2::{connection, exchange};
use crate::http::incoming::Incoming;
use crate::http::watched::{Report, Watched};
use crate::pool::http1::{Counted, Open, Wire};
use crate::pool::http2::{Alpn, Http2, Stream};
use crate::pool::tls::Configs;
use crate::pool::{Hop, Pools, Purpose};
use crate::record::ResponseFlag;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::tcp::bytes::Bytes as Io;
use crate::tcp::socket;
use crate::telemetry::{Count, Level};
use crate::vanish::{FarStream, Line, Watch, Way};

/// Why there is no connection. Cheap to clone: everybody who waited for it gets one.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{detail}")]
pub(crate) struct DialError {
    pub(crate) kind: DialKind,
    detail: Rc<str>,
}

/// The kinds of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DialKind {
    /// This proxy has no certificate.
    NoCredentials,
    /// Nobody answered, or not what was expected.
    Connect,
    /// Not in time.
    Timeout,
    /// The endpoint's host or port took no TCP connection. Others are preferred until it does.
    Unreachable,
    /// One of the two sides did not accept the other's identity.
    Identity,
    /// Too many connections.
    Overflow,
    /// The proxy at the other end refused the opaque stream.
    Refused(StatusCode),
}

impl DialError {
    pub(crate) fn new(kind: DialKind, detail: &str) -> Self {
        Self { kind, detail: detail.into() }
    }

    /// Whether the endpoint is to blame.
    pub(crate) fn is_endpoints_fault(&self) -> bool {
        // Who is unreachable is avoided by what finds it again, not ejected for a time.
        !matches!(self.kind, DialKind::NoCredentials | DialKind::Overflow | DialKind::Unreachable)
    }

    /// The failure of a request that needed the connection.
    pub(crate) fn failure(&self) -> Failure {
        let flag = match self.kind {
            DialKind::NoCredentials | DialKind::Connect | DialKind::Timeout | DialKind::Unreachable => {
                ResponseFlag::UpstreamConnectionFailure
            }
            DialKind::Identity => ResponseFlag::UpstreamIdentity,
            DialKind::Overflow => ResponseFlag::UpstreamOverflow,
            DialKind::Refused(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => ResponseFlag::Unauthorized,
            DialKind::Refused(_) => ResponseFlag::UpstreamConnectionFailure,
        };
        Failure::unsent(flag, self.detail.as_ref())
    }
}

/// Opens the connections of one worker.
pub(crate) struct Dialer {
    shared: Arc<Shared>,
    http2: h2::client::Builder,
    tls: Configs,
    watch: Rc<Watch>,
    /// For hops that go through a stream of another pool.
    pools: Weak<Pools>,
}

impl Dialer {
    /// For the worker whose pools are `pools`.
    pub(crate) fn new(shared: Arc<Shared>, pools: Weak<Pools>) -> Self {
        let http2 = connection::builder(shared.settings.limits.head_bytes);
        let watch = Rc::new(Watch::new(shared.settings.timeouts.connect));
        Self { shared, http2, tls: Configs::default(), watch, pools }
    }

    pub(super) fn watch(&self) -> Rc<Watch> {
        self.watch.clone()
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    pub(super) fn generation(&self) -> u64 {
        self.shared.svids.generation()
    }

    /// A new HTTP/1 connection. `counted` is held as long as it is open.
    pub(super) async fn http1(self: Rc<Self>, hop: Hop, counted: Counted) -> Result<Wire, DialError> {
        let gauge = OpenConnection::new(&self.shared, &hop);
        let (io, stream) = match &hop {
            Hop::App(address) => (Io::Tcp(self.tcp(&[*address]).await?.0), None),
            Hop::Plain(addresses) => (Io::Far(Box::new(self.watched(addresses).await?.0)), None),
            Hop::Inside { addresses, identity, authority } => {
                let (io, stream) = self.opaque(addresses, identity, *authority).await?;
                (io, Some(stream))
            }
            Hop::Mesh { .. } => {
                return Err(DialError::new(DialKind::Connect, "proxies speak HTTP/2 with each other"));
            }
        };
        Ok(Wire { io, inbox: Inbox::default(), _open: Open { counted, gauge, stream } })
    }

    /// A new HTTP/2 connection.
    pub(super) async fn http2(self: Rc<Self>, hop: Hop) -> Result<Rc<Http2>, DialError> {
        let guard = OpenConnection::new(&self.shared, &hop);
        match &hop {
            Hop::App(address) => {
                let (tcp, peer) = self.tcp(&[*address]).await?;
                self.http2_on(tcp, (peer, None), Alpn::None, 0, guard).await
            }
            Hop::Plain(addresses) => {
                let (tcp, peer) = self.watched(addresses).await?;
                let end = (peer, Some(tcp.line()));
                self.http2_on(tcp, end, Alpn::None, 0, guard).await
            }
            Hop::Mesh { addresses, identity, .. } => {
                let (tcp, peer) = self.watched(addresses).await?;
                let end = (peer, Some(tcp.line()));
                socket::give_up_unacknowledged(tcp.socket());
                let connected = self.tls.connect(&self.shared, identity, tcp, peer).await;
                let (tls, alpn, generation) = connected.inspect_err(|_| self.count_failure())?;
                self.http2_on(tls, end, alpn, generation, guard).await
            }
            Hop::Inside { addresses, identity, authority } => {
                let generation = self.generation();
                let (io, stream) = self.opaque(addresses, identity, *authority).await?;
                let end = (stream.peer(), stream.line());
                self.http2_on(io, end, Alpn::None, generation, (guard, stream)).await
            }
        }
    }

    async fn http2_on<I>(
        &self,
        io: I,
        (peer, line): (SocketAddr, Option<Arc<Line>>),
        alpn: Alpn,
        generation: u64,
        guard: impl Sized + 'static,
    ) -> Result<Rc<Http2>, DialError>
    where
        I: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let report = Report::new(self.shared.clone(), Side::Dialled, Some(peer));
        let io = Watched::new(Gathered::new(io), report);
        let (sender, connection) = self.http2.handshake(io).await.map_err(|error| broken(&error))?;
        let peer_limit = Rc::new(Cell::new(connection.max_concurrent_send_streams()));
        let streams = Rc::new(Cell::new(0));
        let driving = connection::drive(connection, peer_limit.clone(), streams.clone());
        tokio::task::spawn_local(async move {
            let _open = guard;
            driving.await;
        });
        let now = Instant::now();
        Ok(Rc::new(Http2 {
            sender: RefCell::new(sender),
            alpn,
            peer,
            peer_limit,
            generation,
            retires: now + self.settings().timeouts.connection_age.mul_f64(rand::random_range(0.8..1.2)),
            streams,
            used: Cell::new(now),
            line,
        }))
    }

    /// A TCP connection to an endpoint, under watch.
    async fn watched(&self, addresses: &Rc<[SocketAddr]>) -> Result<(FarStream, SocketAddr), DialError> {
        let (tcp, peer, way) = self.endpoint(addresses).await?;
        Ok((self.watch.follow(tcp, &way), peer))
    }

    /// A TCP connection to an endpoint. A failure is held against the way to it.
    pub(crate) async fn endpoint(
        &self,
        addresses: &Rc<[SocketAddr]>,
    ) -> Result<(TcpStream, SocketAddr, Rc<Way>), DialError> {
        let way = self.watch.way(addresses);
        match self.tcp(addresses).await {
            Ok((tcp, peer)) => {
                way.heard();
                socket::keep_alive(&tcp);
                Ok((tcp, peer, way))
            }
            Err(error) => {
                if way.unheard() {
                    self.shared.telemetry.add(Count::Unheard, 1);
                    tracing::warn!(%error, "an endpoint takes no connection: others are preferred");
                }
                Err(DialError { kind: DialKind::Unreachable, ..error })
            }
        }
    }

    /// A TCP connection, whose other end the kernel knows best: to the local application.
    pub(crate) async fn tcp(&self, addresses: &[SocketAddr]) -> Result<(TcpStream, SocketAddr), DialError> {
        let connected = socket::connect(addresses, self.settings().timeouts.connect).await;
        self.shared.telemetry.add(Count::UpstreamConnects, 1);
        connected.map_err(|error| {
            self.count_failure();
            let kind = match error.kind() {
                std::io::ErrorKind::TimedOut => DialKind::Timeout,
                // This process or host is out of files: not the endpoint's fault.
                _ if out_of_files(&error) => DialKind::Overflow,
                _ => DialKind::Connect,
            };
            let tried: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            DialError::new(kind, &format!("connecting to {}: {error}", tried.join(", ")))
        })
    }

    /// An opaque stream to `authority` through the proxy at `addresses`: the `CONNECT` of HBONE. It stands when the
    /// application's connection does. The [`Stream`] is held as long as the bytes flow.
    pub(crate) async fn opaque(
        &self,
        addresses: &Rc<[SocketAddr]>,
        identity: &SpiffeId,
        authority: SocketAddr,
    ) -> Result<(Io, Stream), DialError> {
        let gone = || DialError::new(DialKind::Connect, "the worker is shutting down");
        let pools = self.pools.upgrade().ok_or_else(gone)?;
        let hop =
            Hop::Mesh { addresses: addresses.clone(), identity: identity.clone(), purpose: Purpose::Bytes };
        let stream = pools.of(&hop).http2().await?;
        let peer = stream.peer();
        let failed = |error: &dyn std::error::Error| {
            DialError::new(
                DialKind::Connect,
                &format!("CONNECT {authority} through {peer}: {}", chain(error)),
            )
        };
        let uri: Uri =
            authority.to_string().parse().map_err(|error: http::uri::InvalidUri| failed(&error))?;
        let mut request = Request::new(RequestBody::Empty);
        *request.method_mut() = http::Method::CONNECT;
        *request.uri_mut() = uri;
        let response = exchange::send(stream.sender(), request).await.map_err(|error| failed(&error))?;
        let status = response.status();
        match response.into_body() {
            Incoming::Switched(io) => Ok((io, stream)),
            _ => {
                let detail = format!("the proxy at {peer} answered {status} to CONNECT {authority}");
                Err(DialError::new(DialKind::Refused(status), &detail))
            }
        }
    }

    fn count_failure(&self) {
        self.shared.telemetry.add(Count::UpstreamConnectFailures, 1);
    }
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dialer")
    }
}

/// One open connection in the gauges, until it is dropped.
pub(super) struct OpenConnection(Arc<Shared>, Level);

impl std::fmt::Debug for OpenConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpenConnection({:?})", self.1)
    }
}

impl OpenConnection {
    fn new(shared: &Arc<Shared>, hop: &Hop) -> Self {
        let level = match hop {
            Hop::App(_) => Level::AppConnections,
            Hop::Plain(_) | Hop::Mesh { .. } | Hop::Inside { .. } => Level::UpstreamConnections,
        };
        shared.telemetry.rise(level);
        Self(shared.clone(), level)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.telemetry.fall(self.1);
    }
}

fn out_of_files(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error();
    [Errno::MFILE, Errno::NFILE].iter().any(|full| errno == Some(full.raw_os_error()))
}

fn broken(error: &h2::Error) -> DialError {
    DialError::new(DialKind::Connect, &chain(error))
}
