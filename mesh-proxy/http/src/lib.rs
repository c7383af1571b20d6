//! What the proxy holds HTTP to, as pure functions and state machines over bytes.
//!
//! A proxy and the application behind it must never read one message in two ways. So what is ambiguous is refused here,
//! before anything is decided on it, and each refusal has a kind that is counted. No sockets, no clock, no async: the
//! proxy drives these, the fuzzers do too.

pub mod authority;
mod bytes;
pub mod http1;
pub mod http2;
pub mod malformed;
pub mod path;
pub mod refused;
pub mod trailers;

pub use malformed::Malformed;
pub use refused::Refused;
