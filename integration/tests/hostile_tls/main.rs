//! Connections that nobody should make: wrong certificates, broken TLS, floods, silence. Over real proxies.
//!
//! Tables of what is done and what must come of it. Whatever the row, nothing of it reaches the application, which is a
//! recording one of the tests' own, and a good request afterwards is answered.

mod callees;
mod callers;
mod certificates;
mod floods;
mod load;
mod recorder;
mod wire;
mod world;
