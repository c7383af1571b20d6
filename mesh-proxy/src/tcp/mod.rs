//! Bytes without HTTP: sockets, and the copying between two of them.

pub(crate) mod bytes;
pub(crate) mod copy;
pub(crate) mod socket;
