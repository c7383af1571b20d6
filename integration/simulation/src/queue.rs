//! What happens next, in virtual time: a heap of events; of the same moment in the order they were put in.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

/// Something that happens. A process is named with the number of its run, so that what was meant for one that has gone
/// does not reach the next.
#[derive(Debug)]
pub(crate) enum Event {
    /// A registry changes.
    Script {
        registry: usize,
    },
    /// An adapter reads its registry; then what it read is there.
    Read {
        plane: usize,
        run: u64,
        registry: usize,
    },
    Deliver {
        plane: usize,
        run: u64,
        registry: usize,
        read: crate::source::Read,
    },
    /// Supervision has something to do.
    Supervise {
        plane: usize,
        run: u64,
        registry: usize,
    },
    Publish {
        plane: usize,
        run: u64,
    },
    Store {
        plane: usize,
        run: u64,
    },
    /// `ready.registry_deadline` is over.
    Overdue {
        plane: usize,
        run: u64,
    },
    PlaneStarts {
        plane: usize,
    },
    /// The trust bundle of a control plane is another one.
    Rotated {
        plane: usize,
    },
    ProxyStarts {
        proxy: usize,
    },
    /// A proxy's next attempt to open a stream, and its failure.
    Connect {
        proxy: usize,
        run: u64,
    },
    NotConnected {
        proxy: usize,
        run: u64,
        since: Duration,
    },
    /// A message arrives.
    ToPlane {
        link: u64,
        bytes: Vec<u8>,
    },
    ToProxy {
        link: u64,
        message: crate::link::ToProxy,
    },
    /// An end learns that its stream is over.
    ProxyLoses {
        link: u64,
    },
    PlaneLoses {
        link: u64,
    },
    /// A partition has lasted longer than the pings; or the client's certificate is over.
    Unanswered {
        link: u64,
        partition: u64,
    },
    Lapse {
        link: u64,
    },
    /// The proxy looks after its certificate.
    Keep {
        proxy: usize,
        run: u64,
    },
    Apply {
        proxy: usize,
        run: u64,
        plane: usize,
        left: usize,
    },
    Issued {
        proxy: usize,
        run: u64,
        leaf: Option<crate::leaf::Leaf>,
    },
    LeafEnds {
        proxy: usize,
        leaf: crate::leaf::Leaf,
    },
    /// The proxy wants another service, or one less.
    Want {
        proxy: usize,
    },
    Save {
        proxy: usize,
        run: u64,
    },
    Fault(crate::plan::Fault),
    /// What is over.
    RegistryBack {
        registry: usize,
    },
    PartitionEnds {
        partition: u64,
    },
    ClockRight {
        host: crate::world::Host,
    },
}

/// The events to come.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    order: BinaryHeap<Reverse<(Duration, u64)>>,
    events: BTreeMap<u64, Event>,
    next: u64,
}

impl Queue {
    pub(crate) fn put(&mut self, at: Duration, event: Event) {
        self.order.push(Reverse((at, self.next)));
        self.events.insert(self.next, event);
        self.next += 1;
    }

    /// The next event that is not after `end`.
    pub(crate) fn take(&mut self, end: Duration) -> Option<(Duration, Event)> {
        let Reverse((at, number)) = *self.order.peek()?;
        if at > end {
            return None;
        }
        self.order.pop();
        self.events.remove(&number).map(|event| (at, event))
    }
}
