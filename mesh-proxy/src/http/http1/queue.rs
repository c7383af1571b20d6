//! What is to be written: a head, and a body's next part, in as few system calls as can be.
//!
//! Small parts are copied behind the head and go in one write; a large one is written beside it, uncopied. When a large
//! part waits, nothing else is taken: that is the backpressure.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use tokio::io::AsyncWrite;
use weft_http::http1::encode;

use crate::tcp::bytes::Bytes as Io;

/// Bytes on their way out, in this order.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    head: BytesMut,
    data: Bytes,
    tail: &'static [u8],
}

/// Up to here copying is cheaper than another slice.
const COPIED: usize = 4 * 1024;
/// So much is gathered before it is written.
const GATHERED: usize = 16 * 1024;

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_empty() && self.data.is_empty() && self.tail.is_empty()
    }

    /// The bytes in it.
    pub(crate) fn len(&self) -> usize {
        self.head.len().saturating_add(self.data.len()).saturating_add(self.tail.len())
    }

    /// Whether more may be put in.
    pub(crate) fn has_room(&self) -> bool {
        self.data.is_empty() && self.tail.is_empty() && self.head.len() < GATHERED
    }

    /// Where a head is written.
    pub(crate) fn head(&mut self) -> &mut BytesMut {
        &mut self.head
    }

    /// A part of a body. Only while there is room.
    pub(crate) fn data(&mut self, data: Bytes, chunked: bool) {
        if data.is_empty() {
            // A chunk of nothing would be the last one.
            return;
        }
        if chunked {
            encode::chunk(&mut self.head, data.len());
        }
        let tail: &'static [u8] = if chunked { b"\r\n" } else { b"" };
        if data.len() <= COPIED {
            self.head.extend_from_slice(&data);
            self.head.extend_from_slice(tail);
        } else {
            self.data = data;
            self.tail = tail;
        }
    }

    /// The end of a chunked body. Only while there is room.
    pub(crate) fn last_chunk(&mut self, trailers: Option<&HeaderMap>) {
        encode::last_chunk(&mut self.head, trailers);
    }

    /// Writes all of it. An error leaves it as it is.
    pub(crate) fn poll_write(&mut self, io: &mut Io, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let written = if self.data.is_empty() && self.tail.is_empty() {
                ready!(Pin::new(&mut *io).poll_write(cx, &self.head))?
            } else {
                let slices = [IoSlice::new(&self.head), IoSlice::new(&self.data), IoSlice::new(self.tail)];
                ready!(Pin::new(&mut *io).poll_write_vectored(cx, &slices))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        Pin::new(io).poll_flush(cx)
    }

    fn advance(&mut self, mut written: usize) {
        let head = written.min(self.head.len());
        self.head.advance(head);
        written = written.saturating_sub(head);
        let data = written.min(self.data.len());
        self.data.advance(data);
        written = written.saturating_sub(data);
        self.tail = self.tail.get(written..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_in_part_goes_on_where_it_stopped() {
        let mut queue = Queue::default();
        queue.head().extend_from_slice(b"head");
        queue.data(Bytes::from(vec![b'x'; COPIED + 1]), true);
        assert!(!queue.has_room());
        let whole = [&queue.head[..], &queue.data[..], queue.tail].concat();
        for at in [0, 3, 4, 10, whole.len() - 2, whole.len() - 1, whole.len()] {
            let mut part = Queue { head: queue.head.clone(), data: queue.data.clone(), tail: queue.tail };
            part.advance(at);
            assert_eq!([&part.head[..], &part.data[..], part.tail].concat(), whole[at..], "{at}");
        }
    }

    #[test]
    fn nothing_is_no_chunk() {
        let mut queue = Queue::default();
        queue.data(Bytes::new(), true);
        assert!(queue.is_empty());
    }
}
