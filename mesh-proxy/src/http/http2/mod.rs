//! HTTP/2 towards endpoints: h2's streams, driven by who waits for them.
//!
//! hyper's client would put a task, a queue and three channels between a request and its stream. Here who waits for the
//! response drives the request, as over HTTP/1; only a request that is still on its way when its response comes gets a
//! task. What the peer's frames may cost is bounded beneath, where the socket is watched.

pub(crate) mod answer;
pub(crate) mod bytes;
pub(crate) mod connection;
pub(crate) mod exchange;
mod upload;

pub(crate) use answer::Answer;
pub(crate) use bytes::StreamBytes;
pub(crate) use connection::Sender;

#[cfg(test)]
mod tests;
