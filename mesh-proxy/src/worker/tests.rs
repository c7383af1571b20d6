//! The data path over real sockets: proxies of two identities in one thread, with applications that the tests play.

mod bytes;
mod drain;
mod http;
mod identity;
mod kit;
mod limits;
mod retry;
mod upgrade;
