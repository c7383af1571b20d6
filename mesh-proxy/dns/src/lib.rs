//! Names of the mesh, as pure functions and state machines: what a question asks, whose name it is, which address stands
//! for a service, and what becomes of a question that others have to answer.
//!
//! The messages themselves are read and written by `hickory-proto`, whose types stay in here. No sockets, no clock, no
//! files: the proxy drives these, the fuzzers do too.

mod addresses;
mod forward;
mod message;
mod range;
mod reply;
mod resolv_conf;
mod zone;

pub use addresses::{Damaged, Full, VirtualAddresses};
pub use forward::{Forwarding, Heard, Step};
pub use message::{MAX_MESSAGE, Malformed, Query};
pub use range::{InvalidRange, VirtualRange};
pub use reply::{Reply, failed};
pub use resolv_conf::{Nameservers, nameservers};
pub use zone::{InvalidZone, Named, Zone};
