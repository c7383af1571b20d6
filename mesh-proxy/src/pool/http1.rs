//! HTTP/1 connections: one request at a time, given back when the response has ended.
//!
//! One that waits is watched by nobody: whether its other end has closed it, or has sent what nobody asked for, is looked
//! at when it is taken and at every sweep. That costs no system call, since the runtime knows which sockets have news.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;
use weft_http::http1::Limits;

use crate::http::http1::Inbox;
use crate::pool::dial::{DialError, DialKind, OpenConnection};
use crate::pool::{Pool, Stream};
use crate::tcp::bytes::Bytes as Io;

/// The connections that wait for a request.
#[derive(Debug, Default)]
pub(super) struct Idle {
    // Boxed, as they wander through the futures of requests.
    waiting: RefCell<Vec<(Box<Wire>, Instant)>>,
    /// Open ones, waiting or not.
    open: Rc<Cell<usize>>,
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) io: Io,
    /// What was read and not used. Empty, and without memory, while it waits.
    pub(crate) inbox: Inbox,
    pub(super) _open: Open,
}

/// What is held as long as a connection is open.
#[derive(Debug)]
#[expect(dead_code, reason = "held for what dropping it does")]
pub(super) struct Open {
    pub(super) counted: Counted,
    pub(super) gauge: OpenConnection,
    /// The stream that it is inside of.
    pub(super) stream: Option<Stream>,
}

/// A connection for one request.
#[derive(Debug)]
pub(crate) struct Http1 {
    pool: Rc<Pool>,
    wire: Option<Box<Wire>>,
    reused: bool,
}

impl Pool {
    /// A connection that waits, or a new one.
    pub(crate) async fn http1(self: &Rc<Self>) -> Result<Http1, DialError> {
        if let Some(wire) = self.http1.take() {
            return Ok(Http1 { pool: self.clone(), wire: Some(wire), reused: true });
        }
        self.new_http1().await
    }

    /// A new connection in any case: after one that waited turned out to be closed.
    pub(crate) async fn new_http1(self: &Rc<Self>) -> Result<Http1, DialError> {
        if self.http1.open.get() >= self.dialer.settings().limits.endpoint_connections {
            return Err(DialError::new(DialKind::Overflow, "limits.endpoint_connections is reached"));
        }
        // Counted before it is open: others must not pass the limit meanwhile.
        let counted = Counted::new(&self.http1.open);
        let wire = Box::pin(self.dialer.clone().http1(self.hop.clone(), counted)).await?;
        Ok(Http1 { pool: self.clone(), wire: Some(Box::new(wire)), reused: false })
    }
}

/// Counts an open connection of a pool until it is closed.
#[derive(Debug)]
pub(super) struct Counted(Rc<Cell<usize>>);

impl Counted {
    fn new(open: &Rc<Cell<usize>>) -> Self {
        open.set(open.get().saturating_add(1));
        Self(open.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

impl Http1 {
    /// Whether it has carried requests before, so that it may have been closed without our knowledge.
    pub(crate) fn was_reused(&self) -> bool {
        self.reused
    }

    /// What bounds a response's head, and how long its parts may take.
    pub(crate) fn bounds(&self) -> (Limits, Duration) {
        let settings = self.pool.dialer.settings();
        (Limits::new(settings.limits.head_bytes as usize), settings.timeouts.idle)
    }

    /// The connection itself; `None` never happens before it is given back.
    pub(crate) fn wire(&mut self) -> Option<&mut Wire> {
        self.wire.as_deref_mut()
    }

    /// What is spoken on it from now on is no HTTP.
    pub(crate) fn into_io(mut self) -> Option<Io> {
        let Wire { io, inbox, .. } = *self.wire.take()?;
        Some(Io::begun(inbox.into_bytes(), io))
    }

    /// It may carry another request. One with bytes that belong to no response is closed instead.
    pub(crate) fn give_back(mut self) {
        if let Some(mut wire) = self.wire.take()
            && wire.inbox.is_empty()
        {
            wire.inbox = Inbox::default();
            self.pool.http1.waiting.borrow_mut().push((wire, Instant::now()));
        }
    }
}

impl Wire {
    /// Whether its other end has neither closed it nor sent anything.
    fn is_quiet(&mut self) -> bool {
        let (mut byte, mut nobody) = ([0; 1], Context::from_waker(Waker::noop()));
        Pin::new(&mut self.io).poll_read(&mut nobody, &mut ReadBuf::new(&mut byte)).is_pending()
    }
}

impl Idle {
    /// The one that was used last.
    fn take(&self) -> Option<Box<Wire>> {
        let mut waiting = self.waiting.borrow_mut();
        while let Some((mut wire, _)) = waiting.pop() {
            if wire.is_quiet() {
                return Some(wire);
            }
        }
        None
    }

    pub(super) fn sweep(&self, now: Instant, idle: Duration) {
        self.waiting
            .borrow_mut()
            .retain_mut(|(wire, since)| now.saturating_duration_since(*since) < idle && wire.is_quiet());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.get() == 0
    }
}
