//! TLS under tonic: a stream of connections whose handshake is done, each with who the peer is.
//!
//! Handshakes run beside the accepting, in bounded number and time, so that one silent client blocks nobody. A client
//! without a certificate is let in as nobody (a first join has none), for a minute; one with a bad certificate is not.
//! No address and no identity has all the places there are, and a connection that nobody uses is ended (`handle.rs`).
//! The own certificate is the [`SvidSource`]'s of that moment, so a renewal needs no restart.

mod handle;

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use futures::Stream;
use rustls::ServerConfig;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use weft_identity::{ClientAuth, SvidSource, peer_id, refusal_of_io};
use weft_model::SpiffeId;
use weft_process::counters::Reasons;
use x509_parser::prelude::{FromDer, X509Certificate};

pub use handle::{Handle, InUse};

use crate::shares::{Full, Place, Shares};

/// How many connections there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConnectionLimits {
    /// Of clients with a certificate; a proxy has one or two.
    pub total: usize,
    /// Of them with one identity: all instances of a service, or one that was stolen.
    pub per_identity: usize,
    /// Of clients without a certificate; half of it for one address.
    pub strangers: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        // Each costs some 30 kB with its TLS and HTTP/2 state.
        Self { total: 25_000, per_identity: 5_000, strangers: 1_000 }
    }
}

/// The places of all connections, and why some got none. Clones share them.
#[derive(Debug, Clone)]
pub struct Connections {
    handshakes: Shares<IpAddr>,
    strangers: Shares<IpAddr>,
    members: Shares<SpiffeId>,
    refused: Arc<Reasons>,
}

impl Connections {
    /// With so many places.
    pub fn new(limits: ConnectionLimits) -> Self {
        Self {
            handshakes: Shares::new(MOST_HANDSHAKES, MOST_HANDSHAKES / 2),
            strangers: Shares::new(limits.strangers, limits.strangers.div_ceil(2)),
            members: Shares::new(limits.total, limits.per_identity),
            refused: Arc::new(Reasons::new(REFUSED)),
        }
    }

    /// How many there are: in their handshake, without a certificate, with one.
    pub fn open(&self) -> [(&'static str, usize); 3] {
        [
            ("handshake", self.handshakes.taken()),
            ("stranger", self.strangers.taken()),
            ("member", self.members.taken()),
        ]
    }

    /// Why connections were refused or ended, and how many.
    pub fn refused(&self) -> &Reasons {
        &self.refused
    }

    fn enter(&self, id: Option<&SpiffeId>, remote: SocketAddr) -> Option<Held> {
        let entered = match id {
            Some(id) => self.members.enter(id.clone()).map(Held::Member),
            None => self.strangers.enter(remote.ip()).map(Held::Stranger),
        };
        entered.map_err(|full| self.refuse(full, remote)).ok()
    }

    fn refuse(&self, full: Full, remote: SocketAddr) {
        self.refused.add(match full {
            Full::Total => "full",
            Full::Share => "share",
        });
        tracing::debug!(%remote, ?full, "a connection is refused: there are too many");
    }
}

/// A connection's place.
#[derive(Debug)]
#[expect(dead_code, reason = "held for its drop")]
enum Held {
    Stranger(Place<IpAddr>),
    Member(Place<SpiffeId>),
}

/// Who is at the other end of a connection. In each request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The id that its certificate proved; `None` without a certificate.
    pub id: Option<SpiffeId>,
    /// The end of that certificate. A connection may live longer.
    pub not_after: Option<SystemTime>,
    /// Its address.
    pub remote: SocketAddr,
    /// The connection itself.
    pub connection: Handle,
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct Connection {
    stream: TlsStream<TcpStream>,
    peer: PeerIdentity,
    /// Fires when it may be time to end it.
    timer: Pin<Box<Sleep>>,
    connections: Connections,
    _held: Held,
}

impl Connection {
    /// Whether it is to end: told so, or unused for too long.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        if self.peer.connection.is_closed(cx.waker()) {
            return true;
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let ends = self.peer.connection.ends(now);
            if ends <= now {
                tracing::debug!(remote = %self.peer.remote, "a connection is ended: nobody used it");
                self.connections.refused.add("idle");
                self.peer.connection.close();
                return true;
            }
            self.timer.as_mut().reset(ends);
        }
        false
    }

    /// Of writing, which nothing but the end may interrupt: from a client that does not read, HTTP/2 does not read either,
    /// and each other poll reads.
    fn while_alive<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_pending() && self.is_over(cx) { ended() } else { done }
    }
}

fn ended<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "this connection was ended here")))
}

/// Accepts connections for tonic's `serve_with_incoming`. Never ends; dropping it ends the handshakes that run.
pub fn incoming(
    listener: TcpListener,
    source: SvidSource,
    connections: Connections,
) -> impl Stream<Item = io::Result<Connection>> + Send {
    let acceptor = Acceptor { listener, source, connections, config: None, handshakes: JoinSet::new() };
    futures::stream::unfold(acceptor, |mut acceptor| async move {
        let connection = acceptor.next().await;
        Some((Ok(connection), acceptor))
    })
}

struct Acceptor {
    listener: TcpListener,
    source: SvidSource,
    connections: Connections,
    /// The configuration of a generation of the source.
    config: Option<(u64, Arc<ServerConfig>)>,
    handshakes: JoinSet<Option<Connection>>,
}

impl Acceptor {
    async fn next(&mut self) -> Connection {
        loop {
            let may_accept = self.handshakes.len() < MOST_HANDSHAKES;
            tokio::select! {
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(connection)) = done {
                        return connection;
                    }
                }
                accepted = self.listener.accept(), if may_accept => match accepted {
                    Ok((stream, remote)) => self.start(stream, remote),
                    Err(error) => pause_after(&error).await,
                },
            }
        }
    }

    fn start(&mut self, stream: TcpStream, remote: SocketAddr) {
        let place = match self.connections.handshakes.enter(remote.ip()) {
            Ok(place) => place,
            Err(full) => return self.connections.refuse(full, remote),
        };
        let Some(config) = self.config() else {
            tracing::warn!(%remote, "a connection is refused: this process has no certificate yet");
            return;
        };
        let connections = self.connections.clone();
        self.handshakes.spawn(async move {
            let shaken = handshake(stream, remote, config, &connections).await;
            drop(place);
            identify(shaken?, remote, connections)
        });
    }

    fn config(&mut self) -> Option<Arc<ServerConfig>> {
        let credentials = self.source.current()?;
        if let Some((generation, config)) = &self.config
            && *generation == credentials.generation
        {
            return Some(Arc::clone(config));
        }
        match credentials.server_config(&[b"h2"], ClientAuth::Optional) {
            Ok(config) => {
                self.config = Some((credentials.generation, Arc::clone(&config)));
                Some(config)
            }
            Err(error) => {
                tracing::error!(
                    error = crate::authority::describe(&error),
                    "the own certificate can't be used"
                );
                None
            }
        }
    }
}

async fn handshake(
    stream: TcpStream,
    remote: SocketAddr,
    config: Arc<ServerConfig>,
    connections: &Connections,
) -> Option<TlsStream<TcpStream>> {
    // Small messages that are waited for; if it can't be set they only come later.
    let _slower = stream.set_nodelay(true);
    let handshake = TlsAcceptor::from(config).accept(stream);
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => {
            tracing::warn!(%remote, reason = %refusal_of_io(&error), %error, "a TLS handshake was refused");
            connections.refused.add("tls");
        }
        Err(_) => {
            tracing::debug!(%remote, "a TLS handshake took too long");
            connections.refused.add("handshake_timeout");
        }
    }
    None
}

fn identify(
    stream: TlsStream<TcpStream>,
    remote: SocketAddr,
    connections: Connections,
) -> Option<Connection> {
    let (id, not_after) = match stream.get_ref().1.peer_certificates() {
        None => (None, None),
        Some(chain) => {
            // The verifier has seen it already; if it can't be read now, it is nobody's connection.
            let id = peer_id(chain).ok()?;
            let (_, leaf) = X509Certificate::from_der(chain.first()?).ok()?;
            let end = u64::try_from(leaf.validity().not_after.timestamp()).ok()?;
            (Some(id), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(end)))
        }
    };
    let held = connections.enter(id.as_ref(), remote)?;
    let connection = Handle::new(id.is_none());
    let timer = Box::pin(sleep_until(connection.ends(Instant::now())));
    let peer = PeerIdentity { id, not_after, remote, connection };
    Some(Connection { stream, peer, timer, connections, _held: held })
}

/// A connection that broke before it was accepted is not worth a pause; anything else (no more file descriptors) would
/// fail again at once.
async fn pause_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    if !matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
        tracing::warn!(%error, "accepting a connection failed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

impl Connected for Connection {
    type ConnectInfo = PeerIdentity;
    fn connect_info(&self) -> PeerIdentity {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_over(cx) {
            return ended();
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.while_alive(cx, written)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.while_alive(cx, written)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.while_alive(cx, flushed)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Why a connection is refused or ended.
const REFUSED: &[&str] = &["tls", "handshake_timeout", "full", "share", "idle"];

/// Each holds some 20 kB; a restart of all proxies of a large mesh comes in waves of this size. Half of them for one
/// address, so that a host that only connects leaves room for others; a proxy tries again.
const MOST_HANDSHAKES: usize = 2048;
/// A handshake is two round trips.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
