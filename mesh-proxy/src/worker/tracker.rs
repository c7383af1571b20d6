//! Counts the connections of one side of a worker: for the limit, for telling them to end, and for knowing when all have.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;

/// The open connections of one side.
#[derive(Debug)]
pub(crate) struct Tracker {
    open: Cell<usize>,
    limit: usize,
    closing: Cell<bool>,
    /// Who is to be told, by number.
    waiting: RefCell<BTreeMap<u64, Waker>>,
    next: Cell<u64>,
    left: Notify,
}

/// One open connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Guard(Rc<Tracker>);

impl Tracker {
    /// At most `limit` at a time.
    pub(crate) fn new(limit: usize) -> Rc<Self> {
        Rc::new(Self {
            open: Cell::new(0),
            limit,
            closing: Cell::new(false),
            waiting: RefCell::default(),
            next: Cell::new(0),
            left: Notify::new(),
        })
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
        self.closing.set(true);
        for waker in self.waiting.take().into_values() {
            waker.wake();
        }
    }

    /// Waits until they are told to finish.
    pub(crate) fn closed(self: &Rc<Self>) -> Closed {
        let number = self.next.replace(self.next.get().wrapping_add(1));
        Closed { tracker: self.clone(), number, waker: None }
    }

    /// Waits until there is none.
    pub(crate) async fn emptied(&self) {
        while self.open.get() > 0 {
            self.left.notified().await;
        }
    }
}

/// Ready when the tracker closes. It is polled with every event of its connection, so that costs two looks and no lock.
#[derive(Debug)]
pub(crate) struct Closed {
    tracker: Rc<Tracker>,
    number: u64,
    /// As told to the tracker.
    waker: Option<Waker>,
}

impl Future for Closed {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.tracker.closing.get() {
            return Poll::Ready(());
        }
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
            self.tracker.waiting.borrow_mut().insert(self.number, cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        self.tracker.waiting.borrow_mut().remove(&self.number);
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
    pub(crate) fn closed(&self) -> Closed {
        self.0.closed()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::task::noop_waker_ref;

    use super::*;

    #[tokio::test]
    async fn all_who_wait_are_told_and_who_comes_later_too() {
        let tracker = Tracker::new(1);
        let (mut one, mut other) = (tracker.closed(), tracker.closed());
        assert!(futures::poll!(&mut one).is_pending() && futures::poll!(&mut other).is_pending());
        tracker.close();
        one.await;
        other.await;
        assert!(tracker.closed().now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_waiting_task_is_woken_by_the_waker_it_used_last() {
        let tracker = Tracker::new(1);
        let mut closed = tracker.closed();
        assert!(closed.poll_unpin(&mut Context::from_waker(noop_waker_ref())).is_pending());
        let close = async {
            tokio::task::yield_now().await;
            tracker.close();
        };
        tokio::join!(closed, close);
    }

    #[test]
    fn who_stops_waiting_is_forgotten() {
        let tracker = Tracker::new(1);
        let mut closed = tracker.closed();
        assert!(closed.poll_unpin(&mut Context::from_waker(noop_waker_ref())).is_pending());
        assert_eq!(tracker.waiting.borrow().len(), 1);
        drop(closed);
        assert!(tracker.waiting.borrow().is_empty());
    }
}
