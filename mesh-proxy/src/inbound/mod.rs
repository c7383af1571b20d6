//! From the mesh, and from outside where that is permitted, to the local application.
//!
//! [`tunnel`] accepts other proxies over mTLS, [`permissive`] anybody in plaintext on ports that say so. Both end in
//! [`http`] for requests and [`bytes`] for the rest. Only the ports of `[[inbound]]` are reachable, or
//! where connections are captured every port of the host; and never this proxy's own.

mod bytes;
pub(crate) mod captured;
mod http;
pub(crate) mod permissive;
mod port;
pub(crate) mod tunnel;

use std::net::SocketAddr;
use std::rc::Rc;

use ::http::HeaderValue;

use crate::authorize::{Caller, authorize};
use crate::http::failure::Failure;
use crate::inbound::port::{Port, Ports};
use crate::record::ResponseFlag;
use crate::worker::{Guard, Worker};

/// What the streams of one accepted connection have in common.
struct Connection {
    worker: Rc<Worker>,
    /// Who TLS proved to be at the other end. `None`: plaintext.
    caller: Option<Caller>,
    /// The caller in `x-forwarded-client-cert`.
    xfcc: Option<HeaderValue>,
    ports: Ports,
    peer: SocketAddr,
    /// Requests may travel as themselves, not only opaque bytes.
    requests: bool,
    guard: Rc<Guard>,
}

impl Connection {
    /// Whether the caller is (still) allowed in.
    fn authorize(&self) -> Result<(), Failure> {
        let Some(caller) = &self.caller else { return Ok(()) };
        match self.worker.shared.svids.current() {
            Some(credentials) => authorize(caller, &credentials.bundles),
            // There was a certificate when the connection was accepted, and none is ever taken away.
            None => Err(Failure::unsent(ResponseFlag::Unauthorized, "this proxy has no trust bundle")),
        }
    }

    /// The application's port of this registered number.
    fn port(&self, number: u16) -> Result<Rc<Port>, Failure> {
        self.ports.of(number, &self.worker.shared.bound)
    }
}

/// The bytes of one stream's future.
#[cfg(test)]
pub(crate) fn future_size() -> usize {
    fn size<A, B, C, F: Future>(_: fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }
    size(http::serve)
}
