//! HTTP/1 over sockets: what `weft-http` reads and writes on bytes, with the waiting around it.
//!
//! One task a connection and no channel: a body that is read drives the socket itself, in whichever task reads it.
//! A connection that waits for its next request holds no buffer.

pub(crate) mod body;
pub(crate) mod clock;
pub(crate) mod exchange;
mod link;
pub(crate) mod queue;
mod respond;
pub(crate) mod server;
mod upload;

pub(crate) use body::Received;
pub(crate) use exchange::Exchange;

use std::io;
use std::ops::{Deref, DerefMut};
use std::pin::pin;
use std::task::{Context, Poll, ready};

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

/// What was read of a connection and not used yet.
#[derive(Debug)]
pub(crate) struct Inbox {
    bytes: BytesMut,
    /// How much room the next read gets.
    next: usize,
}

/// A first read: nearly every message is smaller.
const SMALL: usize = 8 * 1024;
/// Reads grow up to this for bulk.
const LARGE: usize = 64 * 1024;
/// With less room than this a read is not worth its call.
const LEAST: usize = 1024;

impl Default for Inbox {
    fn default() -> Self {
        Self { bytes: BytesMut::new(), next: SMALL }
    }
}

impl Deref for Inbox {
    type Target = BytesMut;
    fn deref(&self) -> &BytesMut {
        &self.bytes
    }
}

impl DerefMut for Inbox {
    fn deref_mut(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }
}

impl Inbox {
    /// Reads what there is, with one system call. 0 is the end.
    pub(crate) fn poll_fill(&mut self, io: &mut Io, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.bytes.capacity().saturating_sub(self.bytes.len()) < LEAST {
            self.bytes.reserve(self.next);
        }
        let room = self.bytes.capacity().saturating_sub(self.bytes.len());
        let read = ready!(pin!(io.read_buf(&mut self.bytes)).poll(cx))?;
        // What fills its room has more behind it.
        self.next = if read == room { self.next.saturating_mul(2).min(LARGE) } else { SMALL };
        Poll::Ready(Ok(read))
    }

    /// The bytes, for who goes on with the connection.
    pub(crate) fn into_bytes(self) -> ::bytes::Bytes {
        self.bytes.freeze()
    }
}
