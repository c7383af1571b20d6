//! Hostile clients of the control plane's port, over real processes: each kind is a row with what it must be answered
//! and how it is counted; and with twenty of them at work a hundred good clients notice nothing.
//!
//! The clients are our own, made to misbehave: gRPC ones where a message is bad, HTTP/2 ones where the frames are.

mod ca;
mod connections;
mod fairness;
mod frames;
mod rotation;
mod streams;
mod world;
