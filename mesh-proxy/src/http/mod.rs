//! HTTP without routing: bodies, header hygiene, protocol detection, and the serving of one connection.
//!
//! Everything here is used by both sides of the proxy. Bodies are concrete types end to end: no boxed body,
//! no boxed error, one allocation a request for what telemetry wants to know.

pub(crate) mod body;
pub(crate) mod call;
pub(crate) mod detect;
pub(crate) mod exec;
pub(crate) mod failure;
pub(crate) mod gathered;
pub(crate) mod headers;
pub(crate) mod http1;
pub(crate) mod http2;
pub(crate) mod incoming;
pub(crate) mod outgoing;
pub(crate) mod replay;
pub(crate) mod send;
pub(crate) mod serve;
pub(crate) mod upgrade;
pub(crate) mod watched;
