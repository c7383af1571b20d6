//! Hostile HTTP/1 against a real proxy: what is refused, with which status and kind, and what the application saw.
//!
//! The application is a raw recorder: what it was sent is compared byte for byte (fields in any order, and without the two
//! that this proxy adds). Each row goes to a caller's listener and to a permissive port, whole and in two pieces; a good
//! request after it shows that the proxy is fine. One proxy serves all rows of a test.

mod bodies;
mod fields;
mod framing;
mod responses;
mod row;
mod slow;
mod targets;
mod world;
