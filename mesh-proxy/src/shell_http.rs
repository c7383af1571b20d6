//! HTTP/1.1 servers on the shell's own thread, for the admin endpoint and the health port: few connections, small answers. A
//! busy data path can't silence them, nor they the data path.
//!
//! Places are few, so that connections can't use up the process's files. Where there is none left, whoever holds most loses
//! the oldest: connections that say nothing must not keep a scraper out, nor one caller the others.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

/// An answer.
pub(crate) type Reply = Response<Full<Bytes>>;

/// How much of a server there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Its name in the log.
    pub(crate) name: &'static str,
    /// Connections at once.
    pub(crate) places: usize,
    /// For a request's head; an idle connection is closed after it too.
    pub(crate) patience: Duration,
}

/// Serves for ever. `answer` gets each request, and the local address of its connection.
pub(crate) async fn serve<A, F>(bounds: Bounds, listener: TcpListener, answer: A)
where
    A: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    let mut connections = JoinSet::new();
    let mut open: VecDeque<(IpAddr, AbortHandle)> = VecDeque::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, peer)) => {
                open.retain(|(_, connection)| !connection.is_finished());
                if open.len() >= bounds.places
                    && let Some((_, oldest)) = most_crowded(&open).and_then(|index| open.remove(index))
                {
                    oldest.abort();
                }
                let connection = connection(stream, bounds.patience, answer.clone());
                open.push_back((peer.ip(), connections.spawn(connection)));
            }
            Err(error) => {
                // Out of file descriptors: waiting is all that helps.
                tracing::warn!("{}: accepting a connection: {error}", bounds.name);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// The oldest connection of the address that has most of them.
fn most_crowded<T>(open: &VecDeque<(IpAddr, T)>) -> Option<usize> {
    let mut counts: HashMap<IpAddr, usize> = HashMap::new();
    for (address, _) in open {
        *counts.entry(*address).or_default() += 1;
    }
    let most = counts.values().max()?;
    open.iter().position(|(address, _)| counts.get(address) == Some(most))
}

async fn connection<A, F>(stream: TcpStream, patience: Duration, answer: A)
where
    A: Fn(Request<Incoming>, SocketAddr) -> F,
    F: Future<Output = Reply>,
{
    // Closed before it was looked at.
    let Ok(local) = stream.local_addr() else { return };
    let service = service_fn(move |request| {
        let reply = answer(request, local);
        async { Ok::<_, Infallible>(reply.await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .serve_connection(TokioIo::new(stream), service);
    // A client that goes away is its own business.
    _ = served.await;
}

/// Text for people.
pub(crate) fn text(status: StatusCode, body: impl Into<String>) -> Reply {
    reply(status, "text/plain; charset=utf-8", body.into())
}

/// Only these methods are served here.
pub(crate) fn not_allowed(allowed: &'static str) -> Reply {
    let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, format!("only {allowed} here\n"));
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    reply
}

/// Any answer.
pub(crate) fn reply(status: StatusCode, content_type: &'static str, body: String) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_holds_most_places_loses_the_oldest() {
        let open = |hosts: &[u8]| -> VecDeque<(IpAddr, ())> {
            hosts.iter().map(|host| ([10, 0, 0, *host].into(), ())).collect()
        };
        assert_eq!(most_crowded(&open(&[1, 2, 2, 3, 2])), Some(1));
        assert_eq!(most_crowded(&open(&[1, 2, 3])), Some(0));
        assert_eq!(most_crowded(&open(&[])), None);
    }
}
