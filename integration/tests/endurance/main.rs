//! Real processes under load while what is around them fails, for as long as it takes: no request may fail that need not.
//!
//! Each test has a mesh of its own, 500 requests a second in an open loop, and streams that stay open; it prints what it
//! measured as a figure. What a fault does in detail is for `operation/` and `consul/`.

mod ca;
mod clock;
mod consul;
mod control;
mod disk;
mod flaps;
mod restarts;
mod rotation;
mod vanished;
mod world;
