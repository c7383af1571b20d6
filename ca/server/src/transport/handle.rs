//! What others hold of a connection: whether it is in use, and a way to end it.
//!
//! A connection that nobody uses is ended after a while, one of a stranger after a minute whatever it does. What keeps
//! it in use says so by a guard; the connection itself asks [`Handle::ends`] when its timer fires.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::time::Duration;
use std::{fmt, sync::Arc};

use futures::task::AtomicWaker;
use tokio::time::Instant;

use crate::limits::{Rate, RateLimit};

/// A connection, seen from the requests on it. Clones are the same connection.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

struct Shared {
    opened: Instant,
    stranger: bool,
    closed: AtomicBool,
    waker: AtomicWaker,
    uses: Mutex<Uses>,
}

struct Uses {
    now: usize,
    ever: bool,
    /// When the last one ended, or the connection began.
    since: Instant,
    opened: Rate,
    abandoned: Rate,
}

/// While it lives the connection is in use.
#[derive(Debug)]
pub struct InUse(Handle);

impl Handle {
    /// Of a connection that begins now. `stranger`: it has no client certificate.
    pub fn new(stranger: bool) -> Self {
        let opened = Instant::now();
        let rate = Rate::new(STREAMS, opened.into_std());
        let abandoned = Rate::new(ABANDONED, opened.into_std());
        let uses = Mutex::new(Uses { now: 0, ever: false, since: opened, opened: rate, abandoned });
        Self(Arc::new(Shared {
            opened,
            stranger,
            closed: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            uses,
        }))
    }

    /// A request begins.
    pub fn begin(&self) -> InUse {
        let mut uses = self.uses();
        uses.now += 1;
        uses.ever = true;
        InUse(self.clone())
    }

    /// Whether a stream may be opened; if so it counts. After a refusal the connection should end.
    pub fn may_open(&self) -> bool {
        self.uses().opened.take(1.0, std::time::Instant::now())
    }

    /// A request was reset before it was answered; ends the connection if that happens too often.
    pub fn abandoned(&self) {
        if !self.uses().abandoned.take(1.0, std::time::Instant::now()) {
            self.close();
        }
    }

    /// Ends the connection with all that is on it.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.waker.wake();
    }

    /// Whether it was told to end; who asks is woken when it is.
    pub(super) fn is_closed(&self, waker: &Waker) -> bool {
        self.0.waker.register(waker);
        self.0.closed.load(Ordering::Acquire)
    }

    /// When it ends if nothing happens on it.
    pub(super) fn ends(&self, now: Instant) -> Instant {
        let uses = self.uses();
        let idle = match (uses.now, uses.ever) {
            (0, false) => uses.since + FIRST_REQUEST,
            (0, true) => uses.since + IDLE,
            _ => now + IDLE,
        };
        if self.0.stranger { idle.min(self.0.opened + STRANGER) } else { idle }
    }

    fn uses(&self) -> std::sync::MutexGuard<'_, Uses> {
        self.0.uses.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut uses = self.0.uses();
        uses.now = uses.now.saturating_sub(1);
        uses.since = Instant::now();
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("stranger", &self.0.stranger).finish_non_exhaustive()
    }
}

impl PartialEq for Handle {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Handle {}

/// HTTP/2's preface and a request follow the handshake at once.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// A proxy that has nothing more to ask connects again when it has.
const IDLE: Duration = Duration::from_secs(60);
/// Who has no certificate is here for one: a nonce and an answer.
const STRANGER: Duration = Duration::from_secs(60);
/// Streams opened on one connection: a proxy has one. An HTTP/2 client that opens and resets them would keep a core
/// busy with it.
const STREAMS: RateLimit = RateLimit { per_second: 5.0, burst: 50 };

/// Requests that are reset before they are answered: a proxy that gives up an attempt does it once in seconds.
const ABANDONED: RateLimit = RateLimit { per_second: 5.0, burst: 50 };

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_without_a_first_request_and_when_idle_but_not_in_use() {
        let member = Handle::new(false);
        let start = Instant::now();
        assert_eq!(member.ends(start), start + FIRST_REQUEST);
        let used = member.begin();
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert!(member.ends(Instant::now()) > Instant::now());
        drop(used);
        assert_eq!(member.ends(Instant::now()), Instant::now() + IDLE);
        tokio::time::advance(IDLE).await;
        assert!(member.ends(Instant::now()) <= Instant::now());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stranger_stays_a_minute_whatever_it_does() {
        let stranger = Handle::new(true);
        let _used = stranger.begin();
        tokio::time::advance(STRANGER).await;
        assert!(stranger.ends(Instant::now()) <= Instant::now());
    }

    #[test]
    fn requests_that_are_reset_in_haste_end_the_connection() {
        let handle = Handle::new(false);
        (0..50).for_each(|_| handle.abandoned());
        assert!(!handle.is_closed(Waker::noop()));
        (0..50).for_each(|_| handle.abandoned());
        assert!(handle.is_closed(Waker::noop()));
    }

    #[test]
    fn streams_in_haste_are_refused() {
        let handle = Handle::new(false);
        let opened = (0..1000).filter(|_| handle.may_open()).count();
        assert!((50..100).contains(&opened), "{opened}");
    }
}
