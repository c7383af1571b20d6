//! HTTP/2 connections: many streams each, filled up before another one is opened.
//!
//! A burst of first requests opens one connection, not one each: who comes while it is being opened waits for the same.
//! The next is opened in the background at four fifths of what one may carry. A connection takes no new streams when it
//! is too old, when the credentials it was opened with are not current, or when the peer says so (GOAWAY).

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::FutureExt;
use futures::future::Shared;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::http::http2::Sender;
use crate::http::serve::MOST_STREAMS;
use crate::pool::Pool;
use crate::pool::dial::{DialError, DialKind};
use crate::vanish::Line;

/// What the two ends agreed to put on the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alpn {
    /// Requests, upgrades and opaque streams.
    Weft,
    /// Opaque streams only (HBONE).
    Hbone,
    /// Plain HTTP/2, no proxy at the other end.
    None,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Http2 {
    pub(super) sender: RefCell<Sender>,
    pub(super) alpn: Alpn,
    pub(super) peer: SocketAddr,
    /// What the peer allows at the moment; kept by the connection's task.
    pub(super) peer_limit: Rc<Cell<usize>>,
    pub(super) generation: u64,
    pub(super) retires: Instant,
    /// The open ones; the connection's task looks at them.
    pub(super) streams: Rc<Cell<usize>>,
    pub(super) used: Cell<Instant>,
    /// Of a connection to another host.
    pub(super) line: Option<Arc<Line>>,
}

/// A place for one stream on a connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Stream(Rc<Http2>);

type Dialing = Shared<oneshot::Receiver<Result<Rc<Http2>, DialError>>>;

/// The connections of a pool.
#[derive(Debug, Default)]
pub(super) struct Open {
    connections: RefCell<Vec<Rc<Http2>>>,
    dialing: RefCell<Option<Dialing>>,
}

/// Connections that one request waits for: a burst fills the first and the second, and each takes a hundred.
const MOST_ROUNDS: u32 = 4;

impl Pool {
    /// A stream on an open connection, or on a new one.
    pub(crate) async fn http2(self: &Rc<Self>) -> Result<Stream, DialError> {
        let mut rounds = 0;
        loop {
            match self.choose() {
                Choice::Room(stream) => return Ok(stream),
                Choice::LittleRoom(stream) => {
                    // A failure shows when it is needed: the next request dials again and waits.
                    drop(self.dial());
                    return Ok(stream);
                }
                Choice::Full => {
                    return Err(DialError::new(DialKind::Overflow, "limits.endpoint_connections is reached"));
                }
                Choice::Dial => {
                    let gone = |_| DialError::new(DialKind::Connect, "the worker is shutting down");
                    let opened = self.dial().await.map_err(gone)??;
                    rounds += 1;
                    if rounds >= MOST_ROUNDS {
                        // Others were faster each time, or it is closed already; the stream waits in the one case and fails in the other.
                        return Ok(Stream::open(opened));
                    }
                }
            }
        }
    }

    fn choose(&self) -> Choice {
        let now = Instant::now();
        let generation = self.dialer.generation();
        let mut connections = self.http2.connections.borrow_mut();
        connections.retain(|connection| connection.takes_streams(now, generation));
        let room = |connection: &&Rc<Http2>| {
            !connection.is_doubted() && connection.streams.get() < connection.limit() * 4 / 5
        };
        if let Some(connection) = connections.iter().find(room) {
            return Choice::Room(Stream::open(connection.clone()));
        }
        let can_dial = connections.len() < self.dialer.settings().limits.endpoint_connections;
        // One whose other end is silent is better than none, and not as good as a new one.
        let least = connections.iter().min_by_key(|one| (one.is_doubted(), one.streams.get()));
        match least.filter(|connection| connection.streams.get() < connection.limit()) {
            Some(connection) if can_dial => Choice::LittleRoom(Stream::open(connection.clone())),
            Some(connection) => Choice::Room(Stream::open(connection.clone())),
            None if can_dial => Choice::Dial,
            None => Choice::Full,
        }
    }

    /// Opens a connection, or joins in waiting for the one that is being opened. It is opened by a task of its own, so
    /// that a caller who leaves takes it from nobody.
    fn dial(self: &Rc<Self>) -> Dialing {
        if let Some(dialing) = &*self.http2.dialing.borrow() {
            return dialing.clone();
        }
        let (done, opened) = oneshot::channel();
        let dialing = opened.shared();
        *self.http2.dialing.borrow_mut() = Some(dialing.clone());
        let pool = self.clone();
        tokio::task::spawn_local(async move {
            let result = Box::pin(pool.dialer.clone().http2(pool.hop.clone())).await;
            if let Ok(connection) = &result {
                pool.http2.connections.borrow_mut().push(connection.clone());
            }
            *pool.http2.dialing.borrow_mut() = None;
            // Nobody waits any more: the connection is in the pool all the same.
            let _ = done.send(result);
        });
        dialing
    }
}

enum Choice {
    Room(Stream),
    LittleRoom(Stream),
    Dial,
    Full,
}

impl Http2 {
    fn takes_streams(&self, now: Instant, generation: u64) -> bool {
        // Plaintext connections show no credentials and do not care which are current.
        let current = self.alpn == Alpn::None || self.generation == generation;
        current && now < self.retires && !self.is_closed()
    }

    /// It has ended, or its peer takes no new streams.
    fn is_closed(&self) -> bool {
        // This handle opens no streams itself, so it never waits for one to be opened.
        let asked = self.sender.borrow_mut().poll_ready(&mut Context::from_waker(Waker::noop()));
        matches!(asked, Poll::Ready(Err(_)))
    }

    fn is_doubted(&self) -> bool {
        self.line.as_ref().is_some_and(|line| line.is_doubted())
    }

    fn limit(&self) -> usize {
        self.peer_limit.get().clamp(1, MOST_STREAMS as usize)
    }
}

impl Stream {
    fn open(connection: Rc<Http2>) -> Self {
        connection.streams.set(connection.streams.get().saturating_add(1));
        Self(connection)
    }

    /// What may be put on the connection.
    pub(crate) fn alpn(&self) -> Alpn {
        self.0.alpn
    }

    /// The address at the other end.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    /// The TCP connection beneath.
    pub(super) fn line(&self) -> Option<Arc<Line>> {
        self.0.line.clone()
    }

    /// A handle for sending.
    pub(crate) fn sender(&self) -> Sender {
        self.0.sender.borrow().clone()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get().saturating_sub(1));
        self.0.used.set(Instant::now());
    }
}

impl Open {
    pub(super) fn sweep(&self, now: Instant, idle: Duration, generation: u64) {
        self.connections.borrow_mut().retain(|connection| {
            let busy = connection.streams.get() > 0;
            let fresh = now.saturating_duration_since(connection.used.get()) < idle;
            connection.takes_streams(now, generation) && (busy || fresh)
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.connections.borrow().is_empty() && self.dialing.borrow().is_none()
    }
}
