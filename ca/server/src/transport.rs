//! TLS under tonic: a stream of connections whose handshake is done, each with who the peer is.
//!
//! Handshakes run beside the accepting, in bounded number and time, so that one silent client blocks nobody. A client
//! without a certificate is let in as nobody (a first join has none); one with a bad certificate is not. The own
//! certificate is the [`SvidSource`]'s of that moment, so a renewal needs no restart.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use futures::Stream;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use weft_identity::{ClientAuth, SvidSource, peer_id, refusal_of_io};
use weft_model::SpiffeId;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Who is at the other end of a connection. In each request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The id that its certificate proved; `None` without a certificate.
    pub id: Option<SpiffeId>,
    /// The end of that certificate. A connection may live longer.
    pub not_after: Option<SystemTime>,
    /// Its address.
    pub remote: SocketAddr,
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct Connection {
    stream: TlsStream<TcpStream>,
    peer: PeerIdentity,
}

/// Accepts connections for tonic's `serve_with_incoming`. Never ends; dropping it ends the handshakes that run.
pub fn incoming(
    listener: TcpListener,
    source: SvidSource,
) -> impl Stream<Item = io::Result<Connection>> + Send {
    let acceptor = Acceptor { listener, source, config: None, handshakes: JoinSet::new() };
    futures::stream::unfold(acceptor, |mut acceptor| async move {
        let connection = acceptor.next().await;
        Some((Ok(connection), acceptor))
    })
}

struct Acceptor {
    listener: TcpListener,
    source: SvidSource,
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
        let Some(config) = self.config() else {
            tracing::warn!(%remote, "a connection is refused: this process has no certificate yet");
            return;
        };
        self.handshakes.spawn(handshake(stream, remote, config));
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

async fn handshake(stream: TcpStream, remote: SocketAddr, config: Arc<ServerConfig>) -> Option<Connection> {
    // Small messages that are waited for; if it can't be set they only come later.
    let _slower = stream.set_nodelay(true);
    let handshake = TlsAcceptor::from(config).accept(stream);
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => identify(stream, remote),
        Ok(Err(error)) => {
            tracing::warn!(%remote, reason = %refusal_of_io(&error), %error, "a TLS handshake was refused");
            None
        }
        Err(_) => {
            tracing::debug!(%remote, "a TLS handshake took too long");
            None
        }
    }
}

fn identify(stream: TlsStream<TcpStream>, remote: SocketAddr) -> Option<Connection> {
    let peer = match stream.get_ref().1.peer_certificates() {
        None => PeerIdentity { id: None, not_after: None, remote },
        Some(chain) => {
            // The verifier has seen it already; if it can't be read now, it is nobody's connection.
            let id = peer_id(chain).ok()?;
            let (_, leaf) = X509Certificate::from_der(chain.first()?).ok()?;
            let end = u64::try_from(leaf.validity().not_after.timestamp()).ok()?;
            let not_after = SystemTime::UNIX_EPOCH + Duration::from_secs(end);
            PeerIdentity { id: Some(id), not_after: Some(not_after), remote }
        }
    };
    Some(Connection { stream, peer })
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
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Each holds a few kB; a restart of all proxies of a large mesh comes in waves of this size.
const MOST_HANDSHAKES: usize = 1024;
/// A handshake is two round trips.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
