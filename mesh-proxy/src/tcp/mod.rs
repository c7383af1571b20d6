//! Bytes without HTTP: sockets, and the copying between two of them.

pub(crate) mod bytes;
pub(crate) mod copy;
pub(crate) mod original;
pub(crate) mod socket;
