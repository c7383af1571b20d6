//! One worker's connections under watch, and the task that looks at them while any waits for an acknowledgement.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak as ArcWeak};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::shared::Shared;
use crate::telemetry::Count;
use crate::vanish::judge::{Judge, Verdict};
use crate::vanish::{FarStream, Line, Way};

/// How often it looks, while there is a reason.
const LOOK: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub(crate) struct Watch {
    /// For a connection that tries a way again.
    connect: Duration,
    ways: RefCell<HashMap<Rc<[SocketAddr]>, Weak<Way>>>,
    lines: RefCell<Vec<Followed>>,
    bell: Arc<Notify>,
}

#[derive(Debug)]
struct Followed {
    line: ArcWeak<Line>,
    way: Weak<Way>,
    judge: Judge,
}

impl Watch {
    /// Follows nothing yet. `connect` is the time for a connection that tries a way again.
    pub(crate) fn new(connect: Duration) -> Self {
        Self { connect, ways: RefCell::default(), lines: RefCell::default(), bell: Arc::default() }
    }

    /// The way to these addresses.
    pub(crate) fn way(&self, addresses: &Rc<[SocketAddr]>) -> Rc<Way> {
        let mut ways = self.ways.borrow_mut();
        if let Some(way) = ways.get(addresses).and_then(Weak::upgrade) {
            return way;
        }
        let way = Rc::new(Way::new(addresses.clone(), self.connect));
        ways.insert(addresses.clone(), Rc::downgrade(&way));
        way
    }

    /// Follows a connection on this way from now on.
    pub(crate) fn follow(&self, stream: TcpStream, way: &Rc<Way>) -> FarStream {
        let watched = FarStream::new(stream, self.bell.clone());
        let line = Arc::downgrade(&watched.line());
        self.lines.borrow_mut().push(Followed { line, way: Rc::downgrade(way), judge: Judge::default() });
        watched
    }

    /// Forgets what is gone.
    pub(crate) fn sweep(&self) {
        self.ways.borrow_mut().retain(|_, way| way.strong_count() > 0);
        self.lines.borrow_mut().retain(|followed| followed.line.strong_count() > 0);
    }

    /// Looks once. True: something still waits.
    fn look(&self, shared: &Shared, now: Instant) -> bool {
        let mut waits = false;
        for followed in self.lines.borrow_mut().iter_mut() {
            let Some(line) = followed.line.upgrade() else { continue };
            if line.written.swap(false, Ordering::Relaxed) {
                let still = followed.judge(&line, shared, now);
                line.written.store(still, Ordering::Relaxed);
                waits |= still;
            }
        }
        waits
    }
}

impl Followed {
    fn judge(&mut self, line: &Line, shared: &Shared, now: Instant) -> bool {
        // A socket that can't be asked is closed or about to be.
        let Some(Ok(sending)) = line.handle.sending() else { return false };
        let verdict = self.judge.look(&sending, now);
        let way = self.way.upgrade();
        match verdict {
            Verdict::Heard | Verdict::Waiting => {
                if line.doubted.swap(false, Ordering::Relaxed) {
                    way.iter().for_each(|way| way.heard());
                }
            }
            Verdict::Doubtful => {
                let news = !line.doubted.swap(true, Ordering::Relaxed);
                if news && way.is_some_and(|way| way.unheard()) {
                    shared.telemetry.add(Count::Unheard, 1);
                    tracing::warn!(?sending, "an endpoint's host acknowledges nothing: others are preferred");
                }
            }
            Verdict::Lost => {
                tracing::warn!(?sending, "a connection whose other end acknowledges nothing is cut");
                line.handle.cut();
                return false;
            }
        }
        verdict != Verdict::Heard
    }
}

/// Looks for as long as `watch` lives, and only while there is something to see.
pub(crate) async fn run(watch: Weak<Watch>, shared: Arc<Shared>) {
    let Some(bell) = watch.upgrade().map(|watch| watch.bell.clone()) else { return };
    loop {
        bell.notified().await;
        loop {
            tokio::time::sleep(LOOK).await;
            let Some(watch) = watch.upgrade() else { return };
            if !watch.look(&shared, crate::worker::now()) {
                break;
            }
        }
    }
}
