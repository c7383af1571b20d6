//! A proxy's side of the delta protocol.
//!
//! [`Client`] is the core: what is wanted, what is held, what a response changes; sans-IO, so that it can be driven
//! against the server's state machine without a socket. [`run`] is the shell: connections, back-off, keepalive.
//! It does not turn services into the data path's configuration, and writes nothing to disk: the proxy does.

mod client;
mod shell;

pub use client::{Applied, Client, Members, Update};
pub use shell::{ClientSettings, Command, ConnectError, Event, Reconnect, connect, run, run_client};
