//! The connections of one side of a worker: for the limit, for telling them to end, and for knowing when all have.
//!
//! At the limit a connection without a request makes room for a new one: idle ones cost their owners a reconnection, a
//! refused one costs a request. Each accepted connection has one [`Guard`], and each of its requests a [`Busy`].

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

use tokio::sync::Notify;

use super::told::{Heard, Told};

/// The open connections of one side.
#[derive(Debug)]
pub(crate) struct Tracker {
    open: Cell<usize>,
    limit: usize,
    closing: Cell<bool>,
    /// Who can be told, by number: older ones first.
    members: RefCell<BTreeMap<u64, Rc<Member>>>,
    next: Cell<u64>,
    /// Up to where idle ones were looked for.
    looked: Cell<u64>,
    left: Notify,
}

/// One that can be told to leave.
#[derive(Debug, Default)]
struct Member {
    leave: Rc<Told>,
    /// Requests in progress.
    requests: Cell<usize>,
    /// A listener, not a connection: it leaves when all do.
    listener: bool,
}

/// One open connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Guard {
    tracker: Rc<Tracker>,
    number: u64,
    member: Rc<Member>,
}

/// A request in progress on a connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Busy(Rc<Member>);

/// A listener's place among those who are told to end.
#[derive(Debug)]
pub(crate) struct Listening(Guard);

/// Most members that one look for idle ones passes: a flood of connections must not make every look a long one.
const LOOK: usize = 256;

impl Tracker {
    /// At most `limit` at a time.
    pub(crate) fn new(limit: usize) -> Rc<Self> {
        Rc::new(Self {
            open: Cell::new(0),
            limit,
            closing: Cell::new(false),
            members: RefCell::default(),
            next: Cell::new(0),
            looked: Cell::new(0),
            left: Notify::new(),
        })
    }

    /// One more. `None`: the limit is reached, and no idle one could make room.
    pub(crate) fn enter(self: &Rc<Self>) -> Option<Guard> {
        if self.open.get() >= self.limit {
            // Who is told needs a moment to leave; so many at most are over the limit meanwhile.
            let leaving = self.limit / 16 + 1;
            if self.open.get() >= self.limit.saturating_add(leaving) || self.close_idle(1) == 0 {
                return None;
            }
        }
        self.open.set(self.open.get() + 1);
        Some(self.join(false))
    }

    /// For a listener: not counted.
    pub(crate) fn listening(self: &Rc<Self>) -> Listening {
        Listening(self.join(true))
    }

    fn join(self: &Rc<Self>, listener: bool) -> Guard {
        let number = self.next.replace(self.next.get().wrapping_add(1));
        let member = Rc::new(Member { listener, ..Member::default() });
        if self.closing.get() {
            member.leave.tell();
        }
        self.members.borrow_mut().insert(number, member.clone());
        Guard { tracker: self.clone(), number, member }
    }

    /// How many are open.
    pub(crate) fn open(&self) -> usize {
        self.open.get()
    }

    /// Tells all of them to finish.
    pub(crate) fn close(&self) {
        self.closing.set(true);
        // Not while it is borrowed: a waker may run anything.
        let members: Vec<_> = self.members.borrow().values().cloned().collect();
        for member in members {
            member.leave.tell();
        }
    }

    /// Tells up to `most` connections without a request to leave, and returns how many were told.
    pub(crate) fn close_idle(&self, most: usize) -> usize {
        let mut found = Vec::new();
        {
            let members = self.members.borrow();
            let from = Bound::Excluded(self.looked.get());
            let round = members.range((from, Bound::Unbounded)).chain(members.range(..=self.looked.get()));
            for (number, member) in round.take(most.saturating_add(LOOK)) {
                if found.len() >= most {
                    break;
                }
                self.looked.set(*number);
                if member.is_idle() {
                    found.push(member.clone());
                }
            }
        }
        found.iter().for_each(|member| member.leave.tell());
        found.len()
    }

    /// Waits until there is none.
    pub(crate) async fn emptied(&self) {
        while self.open.get() > 0 {
            self.left.notified().await;
        }
    }
}

impl Member {
    /// Does nothing, and would hear it.
    fn is_idle(&self) -> bool {
        !self.listener && self.requests.get() == 0 && !self.leave.is_told() && self.leave.is_listened_to()
    }
}

impl Guard {
    /// Waits until the connection is told to finish.
    pub(crate) fn closed(&self) -> Heard {
        self.member.leave.heard()
    }

    /// A request on it.
    pub(crate) fn busy(&self) -> Busy {
        self.member.requests.set(self.member.requests.get() + 1);
        Busy(self.member.clone())
    }
}

impl Listening {
    /// Waits until the listener is told to end.
    pub(crate) fn closed(&self) -> Heard {
        self.0.closed()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.tracker.members.borrow_mut().remove(&self.number);
        if !self.member.listener {
            self.tracker.open.set(self.tracker.open.get().saturating_sub(1));
            // One waiter, and a permit is kept where it does not wait yet.
            self.tracker.left.notify_one();
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.requests.set(self.0.requests.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use std::task::Context;

    use futures::FutureExt;
    use futures::task::noop_waker_ref;

    use super::*;

    /// A connection whose task waits to be told.
    fn connected(tracker: &Rc<Tracker>) -> (Guard, Heard) {
        let guard = tracker.enter().unwrap();
        let mut closed = guard.closed();
        assert!(closed.poll_unpin(&mut Context::from_waker(noop_waker_ref())).is_pending());
        (guard, closed)
    }

    #[tokio::test]
    async fn all_are_told_and_who_comes_later_too() {
        let tracker = Tracker::new(4);
        let (one, listener) = (connected(&tracker), tracker.listening());
        tracker.close();
        one.1.await;
        listener.closed().await;
        assert!(tracker.enter().unwrap().closed().now_or_never().is_some());
        assert_eq!(tracker.open(), 1);
    }

    #[test]
    fn at_the_limit_the_oldest_idle_connection_makes_room_and_a_busy_one_does_not() {
        let tracker = Tracker::new(2);
        let listener = tracker.listening();
        let (mut busy, mut idle) = (connected(&tracker), connected(&tracker));
        let _request = busy.0.busy();
        let new = tracker.enter().expect("an idle one makes room");
        assert!((&mut idle.1).now_or_never().is_some() && (&mut busy.1).now_or_never().is_none());
        assert!(listener.closed().now_or_never().is_none());
        assert!(tracker.enter().is_none(), "the one that leaves is not told twice");
        drop(idle);
        assert!(tracker.enter().is_none(), "one is busy and the other does not listen yet");
        drop(new);
        assert!(tracker.enter().is_some());
    }

    #[test]
    fn a_connection_whose_requests_have_ended_is_idle() {
        let tracker = Tracker::new(10);
        let (guard, _closed) = connected(&tracker);
        let (one, other) = (guard.busy(), guard.busy());
        drop(one);
        assert_eq!(tracker.close_idle(5), 0);
        drop(other);
        assert_eq!((tracker.close_idle(5), tracker.close_idle(5)), (1, 0));
    }

    #[test]
    fn a_look_goes_on_where_the_last_one_ended() {
        let tracker = Tracker::new(10_000);
        let busy: Vec<_> = (0..2 * LOOK).map(|_| connected(&tracker)).collect();
        let requests: Vec<_> = busy.iter().map(|(guard, _)| guard.busy()).collect();
        let _idle = connected(&tracker);
        let found: usize = (0..3).map(|_| tracker.close_idle(1)).sum();
        assert_eq!(found, 1);
        drop(requests);
    }
}
