//! The admin endpoint: HTTP/1 on a Unix socket that only the own user can open, and on loopback TCP if set.
//!
//! The socket does everything; TCP only reads, since every local user and every browser tab can reach it. What is
//! answered is in `route.rs`, from the same values that the proxies are served from.

mod metrics;
mod route;
mod view;

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;
use weft_ca::transport::Connections;
use weft_ca::{Authority, CaCounts, JoinTokens};
use weft_identity::SvidSource;
use weft_model::{RegistryId, TrustDomain};

use crate::counters::Counters;
use crate::proxies::Proxies;
use crate::publish::Readers;
use crate::readiness::{Phase, unheard};
use crate::rotate::Rotator;

/// What the admin endpoint can see.
pub(crate) struct Admin {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) started: SystemTime,
    /// Where proxies connect.
    pub(crate) listen: std::net::SocketAddr,
    pub(crate) published: Readers,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) proxies: Proxies,
    pub(crate) counters: Arc<Counters>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) tokens: Arc<JoinTokens>,
    pub(crate) identity: SvidSource,
    pub(crate) seen: Seen,
}

/// What the proxies' port counts, and how its CA's root is replaced.
pub(crate) struct Seen {
    pub(crate) rotator: Rotator,
    /// Certificates and refusals.
    pub(crate) counts: Arc<CaCounts>,
    pub(crate) connections: Connections,
}

impl Admin {
    /// Registries of which nothing is known yet.
    fn unheard(&self) -> Vec<RegistryId> {
        unheard(&self.published.reports.borrow())
    }
}

/// Where a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The Unix socket: whoever can open it may do everything.
    Socket,
    /// Loopback TCP: anybody on this machine.
    Loopback,
}

/// The open sockets.
pub(crate) struct Listeners {
    unix: UnixListener,
    /// Removed when done.
    path: PathBuf,
    tcp: Option<TcpListener>,
}

impl Listeners {
    /// Opens them. A socket left by a process that is gone is replaced; one that somebody answers on is an error.
    pub(crate) async fn bind(socket: &Path, tcp: Option<std::net::SocketAddr>) -> Result<Self> {
        let unix = bind_socket(socket)
            .await
            .with_context(|| format!("opening the admin socket {}", socket.display()))?;
        let tcp = match tcp {
            Some(address) => Some(
                TcpListener::bind(address)
                    .await
                    .with_context(|| format!("opening admin.listen {address}"))?,
            ),
            None => None,
        };
        Ok(Self { unix, path: socket.to_owned(), tcp })
    }

    /// The TCP address, where there is one.
    pub(crate) fn tcp_address(&self) -> Option<std::net::SocketAddr> {
        self.tcp.as_ref().and_then(|listener| listener.local_addr().ok())
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        // Gone already is as good.
        let _removed = std::fs::remove_file(&self.path);
    }
}

async fn bind_socket(path: &Path) -> io::Result<UnixListener> {
    if tokio::net::UnixStream::connect(path).await.is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another weft-control answers there"));
    }
    // Bound under another name, closed to others and then moved: nobody can connect before the mode is set.
    let new = path.with_extension("new");
    for stale in [&new, &path.to_owned()] {
        match std::fs::remove_file(stale) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    std::fs::rename(&new, path)?;
    Ok(listener)
}

/// What this answers to a GET of `/ready` or `/metrics`, for another port of this process that tells the same.
pub(crate) fn read_only(
    admin: &Admin,
    path: &str,
) -> http::Response<http_body_util::Full<hyper::body::Bytes>> {
    route::read(admin, Origin::Loopback, path)
}

/// Serves until dropped.
pub(crate) async fn serve(listeners: Listeners, admin: Arc<Admin>) {
    let mut connections = JoinSet::new();
    loop {
        // Nobody needs more at once; a connection beyond it waits in the listeners' backlog.
        while connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        while connections.try_join_next().is_some() {}
        tokio::select! {
            accepted = listeners.unix.accept() => match accepted {
                Ok((stream, _)) => _ = connections.spawn(connection(stream, Origin::Socket, Arc::clone(&admin))),
                Err(error) => rest(&error).await,
            },
            accepted = accept_some(listeners.tcp.as_ref()) => match accepted {
                Ok((stream, _)) => _ = connections.spawn(connection(stream, Origin::Loopback, Arc::clone(&admin))),
                Err(error) => rest(&error).await,
            },
        }
    }
}

async fn accept_some(
    listener: Option<&TcpListener>,
) -> io::Result<(tokio::net::TcpStream, std::net::SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// Out of file descriptors, mostly: it passes, and must not make a busy loop.
async fn rest(error: &io::Error) {
    tracing::warn!(%error, "accepting an admin connection");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, origin: Origin, admin: Arc<Admin>) {
    let service = service_fn(move |request| {
        let admin = Arc::clone(&admin);
        async move { Ok::<_, Infallible>(route::answer(&admin, origin, request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(10))
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an admin connection ended");
    }
}

/// Scrapers and a few people.
const MAX_CONNECTIONS: usize = 64;
