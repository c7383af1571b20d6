//! Hosts that vanish without a word: power cut, link down, a dropped node. No FIN comes, no reset, no error.
//!
//! The evidence is the kernel's: bytes were sent, a retransmission as well, and nothing was acknowledged for a while. A
//! slow application never looks like this, since its kernel acknowledges. Two thresholds, for two prices of being wrong:
//! first the endpoint is in doubt (others are preferred, what may be repeated moves to one of them, nothing is broken),
//! much later the connection is cut. Looked at are only connections that wait for an acknowledgement, some times a
//! second; requests pay nothing. HTTP/2 pings and TCP's own time-outs find what sends nothing, in tens of seconds.

mod judge;
mod kernel;
mod line;
mod watch;
mod way;

pub(crate) use line::{FarStream, Line};
pub(crate) use watch::{Watch, run};
pub(crate) use way::Way;
