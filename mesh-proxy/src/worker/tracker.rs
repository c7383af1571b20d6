//! Counts the connections of one side of a worker: for the limit, for telling them to end, and for knowing when all have.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::{Notify, watch};

/// The open connections of one side.
#[derive(Debug)]
pub(crate) struct Tracker {
    open: Cell<usize>,
    limit: usize,
    closing: watch::Sender<bool>,
    left: Notify,
}

/// One open connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Guard(Rc<Tracker>);

impl Tracker {
    /// At most `limit` at a time.
    pub(crate) fn new(limit: usize) -> Rc<Self> {
        Rc::new(Self { open: Cell::new(0), limit, closing: watch::Sender::new(false), left: Notify::new() })
    }

    /// One more. `None`: the limit is reached.
    pub(crate) fn enter(self: &Rc<Self>) -> Option<Guard> {
        (self.open.get() < self.limit).then(|| {
            self.open.set(self.open.get() + 1);
            Guard(self.clone())
        })
    }

    /// How many are open.
    pub(crate) fn open(&self) -> usize {
        self.open.get()
    }

    /// Tells all of them to finish.
    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Waits until they are told to finish.
    pub(crate) fn closed(&self) -> impl Future<Output = ()> + 'static {
        let mut closing = self.closing.subscribe();
        async move {
            if closing.wait_for(|closing| *closing).await.is_err() {
                // The tracker is gone, and with it the worker: nothing is left to be told.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until there is none.
    pub(crate) async fn emptied(&self) {
        while self.open.get() > 0 {
            self.left.notified().await;
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get().saturating_sub(1));
        // One waiter, and a permit is kept where it does not wait yet.
        self.0.left.notify_one();
    }
}

impl Guard {
    /// Waits until the connection is told to finish.
    pub(crate) fn closed(&self) -> impl Future<Output = ()> + 'static {
        self.0.closed()
    }
}
