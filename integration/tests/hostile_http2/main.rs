//! Hostile and malformed HTTP/2 against real proxies: what the sender gets, what is counted, what the application saw.
//!
//! The client and the hostile servers here are our own and write frames byte by byte. One mesh serves a whole table of
//! rows; after each row a good request must work and the proxy must not have grown.

mod backend;
mod endpoint;
mod floods;
mod limits;
mod messages;
mod unread;
mod wire;
mod world;
