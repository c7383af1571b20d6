//! TLS handshakes that are not finished, a bounded number a worker: a flood of slow ones must not keep good callers out.
//!
//! At the bound a new one is let in, and the oldest one of the address that has most is given up. A good handshake takes
//! milliseconds, one of a flood stays until its time-out, so the oldest one is a bad one, or one of an address that takes
//! more than its share. IPv6 hosts have a /64 each, so that counts as one address.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::rc::Rc;

use super::told::{Heard, Told};

/// The handshakes of a worker.
#[derive(Debug)]
pub(crate) struct Handshakes {
    limit: usize,
    open: RefCell<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// By number, which is their order.
    of: HashMap<IpAddr, BTreeMap<u64, Rc<Told>>>,
    count: usize,
    next: u64,
}

/// One handshake, until it is dropped.
#[derive(Debug)]
pub(crate) struct Handshake {
    all: Rc<Handshakes>,
    source: IpAddr,
    number: u64,
    given_up: Rc<Told>,
}

impl Handshakes {
    /// At most `limit` at a time.
    pub(crate) fn new(limit: usize) -> Rc<Self> {
        Rc::new(Self { limit, open: RefCell::default() })
    }

    /// One more, from `source`. Another one may have been given up for it.
    pub(crate) fn begin(self: &Rc<Self>, source: IpAddr) -> (Handshake, bool) {
        let source = network(source);
        let given_up = Rc::new(Told::default());
        let (number, victim) = {
            let mut open = self.open.borrow_mut();
            let number = open.next;
            open.next += 1;
            open.count += 1;
            open.of.entry(source).or_default().insert(number, given_up.clone());
            let victim = if open.count > self.limit { open.give_up() } else { None };
            (number, victim)
        };
        // Not while it is borrowed: a waker may run anything.
        let gave_up = victim.is_some_and(|victim| {
            victim.tell();
            true
        });
        (Handshake { all: self.clone(), source, number, given_up }, gave_up)
    }
}

impl Open {
    /// Takes out the oldest one of the address that has most; of equals, the oldest of all.
    fn give_up(&mut self) -> Option<Rc<Told>> {
        let crowded = self.of.iter().max_by_key(|(_, handshakes)| {
            let oldest = handshakes.keys().next().copied().unwrap_or(u64::MAX);
            (handshakes.len(), std::cmp::Reverse(oldest))
        });
        let source = *crowded?.0;
        let (_, victim) = self.of.get_mut(&source)?.pop_first()?;
        self.left(source);
        Some(victim)
    }

    fn left(&mut self, source: IpAddr) {
        self.count -= 1;
        if self.of.get(&source).is_some_and(BTreeMap::is_empty) {
            self.of.remove(&source);
        }
    }
}

impl Handshake {
    /// Ready when it is given up for another one.
    pub(crate) fn given_up(&self) -> Heard {
        self.given_up.heard()
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let mut open = self.all.open.borrow_mut();
        let was_there = open.of.get_mut(&self.source).and_then(|of| of.remove(&self.number)).is_some();
        if was_there {
            open.left(self.source);
        }
    }
}

fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn given_up(handshake: &Handshake) -> bool {
        handshake.given_up().now_or_never().is_some()
    }

    #[test]
    fn the_address_with_most_loses_its_oldest_and_the_others_lose_none() {
        let all = Handshakes::new(4);
        let (bad, good): (IpAddr, IpAddr) = ("10.0.0.66".parse().unwrap(), "10.0.0.1".parse().unwrap());
        let of_good = all.begin(good).0;
        let flood: Vec<_> = (0..3).map(|_| all.begin(bad)).collect();
        assert!(flood.iter().all(|(_, gave_up)| !gave_up));
        let (more, gave_up) = all.begin(bad);
        assert!(gave_up && given_up(&flood[0].0) && !given_up(&flood[1].0) && !given_up(&of_good));
        let (another, _) = all.begin(good);
        assert!(given_up(&flood[1].0) && !given_up(&another) && !given_up(&of_good) && !given_up(&more));
    }

    #[test]
    fn of_one_address_or_of_equals_the_oldest_goes() {
        let all = Handshakes::new(2);
        let one = all.begin("10.0.0.1".parse().unwrap()).0;
        let two = all.begin("10.0.0.2".parse().unwrap()).0;
        let three = all.begin("10.0.0.3".parse().unwrap()).0;
        assert!(given_up(&one) && !given_up(&two) && !given_up(&three));
    }

    #[test]
    fn what_ended_frees_its_place_once() {
        let all = Handshakes::new(1);
        let source = "2001:db8::1".parse().unwrap();
        let (first, _) = all.begin(source);
        let (second, gave_up) = all.begin("2001:db8::2".parse().unwrap());
        assert!(gave_up, "a /64 is one address, and the bound is of all");
        drop(first);
        assert_eq!(all.open.borrow().count, 1);
        drop(second);
        assert_eq!(all.open.borrow().count, 0);
        assert!(all.open.borrow().of.is_empty());
        assert!(!all.begin(source).1);
    }
}
