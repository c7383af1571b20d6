//! HTTP/1 over sockets: what `weft-http` reads and writes on bytes, with the waiting around it.
//!
//! One task a connection and no channel: a body that is read drives the socket itself, in whichever task reads it.
//! A connection that waits for its next request holds no buffer.

pub(crate) mod body;
pub(crate) mod clock;
mod link;
pub(crate) mod queue;
mod respond;
pub(crate) mod server;

pub(crate) use body::Received;

use std::io;
use std::pin::pin;
use std::task::{Context, Poll};

use ::bytes::BytesMut;
use tokio::io::AsyncReadExt;
use weft_http::Refused;
use weft_http::http1::Incomplete;

use crate::tcp::bytes::Bytes as Io;

/// Why a message's body breaks off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It ended too early.
    #[error(transparent)]
    Incomplete(#[from] Incomplete),
    /// The bytes are not HTTP.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// A first read: nearly every message is smaller.
const SMALL: usize = 8 * 1024;
/// Reads grow up to this for bulk.
const LARGE: usize = 64 * 1024;

/// Reads what there is into `buffer`, with one system call. 0 is the end.
pub(crate) fn poll_fill(io: &mut Io, buffer: &mut BytesMut, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    if buffer.capacity() == buffer.len() {
        // What filled its buffer has more: the next read is larger.
        let next = buffer.len().saturating_mul(2).clamp(SMALL, LARGE);
        buffer.reserve(next);
    }
    pin!(io.read_buf(buffer)).poll(cx)
}
