//! HTTP/1 connections: one request at a time, given back when the response has ended.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use tokio::time::Instant;

use crate::http::body::RequestBody;
use crate::pool::Pool;
use crate::pool::dial::{DialError, DialKind};

/// The connections that wait for a request.
#[derive(Debug, Default)]
pub(super) struct Idle {
    waiting: RefCell<Vec<(SendRequest<RequestBody>, Instant)>>,
    /// Open ones, waiting or not.
    open: Cell<usize>,
}

/// A connection for one request. Goes back to its pool when it is dropped.
#[derive(Debug)]
pub(crate) struct Http1 {
    pool: Rc<Pool>,
    sender: Option<SendRequest<RequestBody>>,
    reused: bool,
}

impl Pool {
    /// A connection that waits, or a new one.
    pub(crate) async fn http1(self: &Rc<Self>) -> Result<Http1, DialError> {
        if let Some(sender) = self.http1.take() {
            return Ok(Http1 { pool: self.clone(), sender: Some(sender), reused: true });
        }
        self.new_http1().await
    }

    /// A new connection in any case: after one that waited turned out to be closed.
    pub(crate) async fn new_http1(self: &Rc<Self>) -> Result<Http1, DialError> {
        if self.http1.open.get() >= self.dialer.settings().limits.endpoint_connections {
            return Err(DialError::new(DialKind::Overflow, "limits.endpoint_connections is reached"));
        }
        // Counted before it is open: others must not pass the limit meanwhile.
        let counted = Counted::new(self.clone());
        let sender = Box::pin(self.dialer.clone().http1(self.hop.clone(), counted)).await?;
        Ok(Http1 { pool: self.clone(), sender: Some(sender), reused: false })
    }
}

/// Counts an open connection of a pool until it is closed.
#[derive(Debug)]
pub(super) struct Counted(Rc<Pool>);

impl Counted {
    fn new(pool: Rc<Pool>) -> Self {
        pool.http1.open.set(pool.http1.open.get().saturating_add(1));
        Self(pool)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.http1.open.set(self.0.http1.open.get().saturating_sub(1));
    }
}

impl Http1 {
    /// Whether it has carried requests before, so that it may have been closed without our knowledge.
    pub(crate) fn was_reused(&self) -> bool {
        self.reused
    }

    /// The handle for sending; `None` never happens before the drop.
    pub(crate) fn sender(&mut self) -> Option<&mut SendRequest<RequestBody>> {
        self.sender.as_mut()
    }
}

impl Drop for Http1 {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take()
            && !sender.is_closed()
        {
            self.pool.http1.waiting.borrow_mut().push((sender, Instant::now()));
        }
    }
}

impl Idle {
    /// The one that was used last and is ready. One whose response is still being finished stays for later.
    fn take(&self) -> Option<SendRequest<RequestBody>> {
        let mut waiting = self.waiting.borrow_mut();
        let mut at = waiting.len();
        while at > 0 {
            at -= 1;
            let (ready, closed) =
                waiting.get(at).map(|(sender, _)| (sender.is_ready(), sender.is_closed()))?;
            if closed {
                waiting.swap_remove(at);
            } else if ready {
                // Order is kept: what is beneath is older.
                return Some(waiting.remove(at).0);
            }
        }
        None
    }

    pub(super) fn sweep(&self, now: Instant, idle: Duration) {
        self.waiting
            .borrow_mut()
            .retain(|(sender, since)| !sender.is_closed() && now.saturating_duration_since(*since) < idle);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.get() == 0
    }
}
