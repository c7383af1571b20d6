//! Connections to endpoints and to the local application, one set a worker.
//!
//! A pool is keyed by how the peer is reached and who it must be; the identity that this proxy shows is in every
//! connection's generation, so that none outlives a change of credentials. HTTP/1 connections are taken last-in
//! first-out, so that surplus ones age out; HTTP/2 ones are filled up before another is opened. Connections without users
//! are closed by [`Pools::sweep`]; what is running on them finishes, since dropping a handle only stops new streams.

pub(crate) mod dial;
mod http1;
mod http2;
mod tls;

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::time::Instant;
use weft_model::SpiffeId;

pub(crate) use dial::{DialError, DialKind, Dialer};
pub(crate) use http1::Http1;
pub(crate) use http2::{Alpn, Stream};

use crate::balance::target::InFlight;
use crate::vanish::Watch;

/// How a peer is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Hop {
    /// The local application.
    App(SocketAddr),
    /// An endpoint outside the mesh, without TLS.
    Plain(Rc<[SocketAddr]>),
    /// Another proxy, which must prove `identity`.
    Mesh { addresses: Rc<[SocketAddr]>, identity: SpiffeId, purpose: Purpose },
    /// The application behind another proxy, through an opaque stream to it.
    Inside { addresses: Rc<[SocketAddr]>, identity: SpiffeId, authority: SocketAddr },
}

/// What a connection between proxies carries. Apart, so that requests do not wait behind bulk bytes in one socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// Requests.
    Requests,
    /// Opaque streams.
    Bytes,
}

/// The connections of one hop.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) hop: Hop,
    dialer: Rc<Dialer>,
    http1: http1::Idle,
    http2: http2::Open,
}

/// All pools of a worker.
#[derive(Debug)]
pub(crate) struct Pools {
    dialer: Rc<Dialer>,
    watch: Rc<Watch>,
    pools: RefCell<HashMap<Hop, Rc<Pool>>>,
}

/// What a request occupies until its response has ended. Dropping it gives all of it back.
#[derive(Debug)]
#[expect(dead_code, reason = "held for what dropping it does")]
pub(crate) struct Lease {
    /// At the endpoint.
    pub(crate) in_flight: Option<InFlight>,
    /// On the connection.
    pub(crate) connection: Held,
}

/// A connection, or a part of one.
#[derive(Debug)]
#[expect(dead_code, reason = "held for what dropping it does")]
pub(crate) enum Held {
    /// A stream of a shared HTTP/2 connection.
    Stream(Stream),
    /// Nothing beside what the response's body, or the bytes, hold themselves.
    Nothing,
}

impl Pools {
    /// No connections yet.
    pub(crate) fn new(dialer: Rc<Dialer>) -> Self {
        Self { watch: dialer.watch(), dialer, pools: RefCell::default() }
    }

    /// What looks after the connections to endpoints.
    pub(crate) fn watch(&self) -> &Rc<Watch> {
        &self.watch
    }

    /// What opens the connections.
    pub(crate) fn dialer(&self) -> Rc<Dialer> {
        self.dialer.clone()
    }

    /// The pool of a hop.
    pub(crate) fn of(&self, hop: &Hop) -> Rc<Pool> {
        if let Some(pool) = self.pools.borrow().get(hop) {
            return pool.clone();
        }
        let pool = Rc::new(Pool {
            hop: hop.clone(),
            dialer: self.dialer.clone(),
            http1: http1::Idle::default(),
            http2: http2::Open::default(),
        });
        self.pools.borrow_mut().insert(hop.clone(), pool.clone());
        pool
    }

    /// Closes what is idle or old and forgets pools that nobody uses.
    pub(crate) fn sweep(&self, now: Instant) {
        self.close_unused(now, self.dialer.settings().timeouts.pool_idle);
    }

    /// Closes everything without a request.
    pub(crate) fn shed(&self, now: Instant) {
        self.close_unused(now, std::time::Duration::ZERO);
    }

    fn close_unused(&self, now: Instant, idle: std::time::Duration) {
        let generation = self.dialer.generation();
        self.watch.sweep();
        self.pools.borrow_mut().retain(|_, pool| {
            let unused = Rc::strong_count(pool) == 1;
            pool.http1.sweep(now, idle);
            // An endpoint that nobody refers to any more has left: no reason to wait for its connections' time.
            pool.http2.sweep(now, if unused { std::time::Duration::ZERO } else { idle }, generation);
            !(unused && pool.http1.is_empty() && pool.http2.is_empty())
        });
    }

    /// Closes everything that is idle now; for the end of a drain.
    pub(crate) fn close(&self) {
        self.pools.borrow_mut().clear();
    }
}
