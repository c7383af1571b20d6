//! What is written to an HTTP/2 connection in one turn of the scheduler leaves in one write.
//!
//! hyper and h2 hand over a message in pieces: the connection's task writes a head, which wakes the stream's task, which
//! hands over data or trailers, which wakes the connection's task again. Each piece would be a system call, a TLS record, and
//! a wake-up of the peer. So a flush after a message that is not finished waits until everybody who is awake has had a
//! turn. It waits once: what is flushed then leaves, whole or not. A finished message, and control frames, leave at once.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What comes in pieces of this size is bulk: it gains nothing, so it is neither held nor copied.
const BULK: usize = 4 * 1024;
/// With this much held, the rest waits until it has left.
const MOST: usize = 16 * 1024;
/// A larger buffer is given back when it is empty.
const KEPT: usize = 2 * 1024;

/// A socket that gathers.
#[derive(Debug)]
pub(crate) struct Gathered<I> {
    io: I,
    held: Vec<u8>,
    /// How much of it has been written.
    written: usize,
    frames: Frames,
    /// The flush of what is held was put off to the next turn.
    put_off: bool,
    /// That turn has begun: a connection's task always reads before it writes.
    due: bool,
}

impl<I> Gathered<I> {
    /// For a connection at its beginning.
    pub(crate) fn new(io: I) -> Self {
        Self { io, held: Vec::new(), written: 0, frames: Frames::default(), put_off: false, due: false }
    }

    fn hold(&mut self, bytes: &[u8]) -> usize {
        let bytes = bytes.get(..MOST.saturating_sub(self.held.len())).unwrap_or(bytes);
        self.frames.written(bytes);
        self.held.extend_from_slice(bytes);
        bytes.len()
    }
}

impl<I: AsyncWrite + Unpin> Gathered<I> {
    /// Writes what is held.
    fn poll_release(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.held.get(self.written..).filter(|rest| !rest.is_empty()) {
            let n = ready!(Pin::new(&mut self.io).poll_write(cx, rest))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += n;
        }
        self.written = 0;
        (self.put_off, self.due) = (false, false);
        if self.held.capacity() > KEPT {
            self.held = Vec::new();
        }
        self.held.clear();
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Gathered<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.due = self.put_off;
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Gathered<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bulk = slices.iter().map(|slice| slice.len()).sum::<usize>() >= BULK;
        if bulk || self.held.len() >= MOST {
            ready!(self.poll_release(cx))?;
        }
        if !bulk {
            return Poll::Ready(Ok(slices.iter().map(|slice| self.hold(slice)).sum()));
        }
        let n = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, slices))?;
        let mut left = n;
        for slice in slices {
            let part = slice.get(..left.min(slice.len())).unwrap_or_default();
            self.frames.written(part);
            left -= part.len();
        }
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waits = !self.held.is_empty() && self.written == 0 && self.frames.more_to_come();
        if waits && !self.due {
            if !std::mem::replace(&mut self.put_off, true) {
                // To the end of the queue: who was woken before has had a turn when this task is back.
                cx.waker().wake_by_ref();
            }
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_release(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_release(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// The frames that pass, as far as their headers go.
#[derive(Debug, Default)]
struct Frames {
    /// The header of the frame that begins, so far.
    header: [u8; HEADER],
    have: usize,
    /// Bytes until the next header; the first ones may be a client's preface.
    skip: usize,
    begun: bool,
    unfinished: bool,
}

/// Length, type, flags, stream (RFC 9113 section 4.1).
const HEADER: usize = 9;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;

impl Frames {
    fn written(&mut self, mut bytes: &[u8]) {
        if !std::mem::replace(&mut self.begun, true) && bytes.starts_with(PREFACE) {
            self.skip = PREFACE.len();
        }
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let (Some(place), Some(part)) =
                (self.header.get_mut(self.have..), bytes.get(..bytes.len().min(HEADER - self.have)))
            else {
                return;
            };
            place.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
            self.have += part.len();
            bytes = bytes.get(part.len()..).unwrap_or_default();
            if self.have == HEADER {
                self.frame();
            }
        }
    }

    fn frame(&mut self) {
        let [a, b, c, kind, flags, ..] = self.header;
        self.have = 0;
        self.skip = u32::from_be_bytes([0, a, b, c]) as usize;
        self.unfinished = matches!(kind, DATA | HEADERS) && flags & END_STREAM == 0;
    }

    /// Whether the last frame belongs to a message that goes on.
    fn more_to_come(&self) -> bool {
        self.unfinished
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::task::noop_waker_ref;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn arrived(far: &mut DuplexStream) -> usize {
        let mut space = [0; 64 * 1024];
        far.read(&mut space).now_or_never().map_or(0, Result::unwrap)
    }

    fn flush(near: &mut Gathered<DuplexStream>) {
        let mut cx = Context::from_waker(noop_waker_ref());
        assert!(Pin::new(near).poll_flush(&mut cx).is_ready());
    }

    /// The task's next turn, which begins with a look at what has come.
    fn next_turn(near: &mut Gathered<DuplexStream>) {
        assert!(near.read(&mut [0; 8]).now_or_never().is_none());
    }

    #[test]
    fn a_head_waits_one_turn_for_its_body_and_they_leave_together() {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        let mut near = Gathered::new(near);
        let (head, data) = (frame(HEADERS, 4, b"head"), frame(DATA, END_STREAM, b"data"));
        near.write_all(&head).now_or_never().unwrap().unwrap();
        flush(&mut near);
        assert_eq!(arrived(&mut far), 0);
        next_turn(&mut near);
        near.write_all(&data).now_or_never().unwrap().unwrap();
        flush(&mut near);
        assert_eq!(arrived(&mut far), head.len() + data.len());
    }

    #[test]
    fn it_waits_only_once() {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        let mut near = Gathered::new(near);
        near.write_all(&frame(HEADERS, 4, b"head")).now_or_never().unwrap().unwrap();
        flush(&mut near);
        // Several flushes in one turn are one.
        flush(&mut near);
        assert_eq!(arrived(&mut far), 0);
        next_turn(&mut near);
        flush(&mut near);
        assert_ne!(arrived(&mut far), 0);
    }

    #[test]
    fn what_is_finished_and_what_is_no_message_leaves_at_once() {
        for whole in [frame(HEADERS, 5, b"head"), frame(DATA, END_STREAM, b""), frame(6, 0, &[0; 8])] {
            let (near, mut far) = tokio::io::duplex(64 * 1024);
            let mut near = Gathered::new(near);
            near.write_all(&whole).now_or_never().unwrap().unwrap();
            flush(&mut near);
            assert_eq!(arrived(&mut far), whole.len());
        }
    }

    #[test]
    fn frames_are_followed_over_any_split_and_after_a_preface() {
        let bytes =
            [PREFACE, &frame(4, 0, &[0; 12]), &frame(HEADERS, 4, b"head"), &frame(DATA, 0, b"da")].concat();
        let mut frames = Frames::default();
        frames.written(&bytes);
        assert!(frames.more_to_come());
        for at in PREFACE.len()..bytes.len() {
            let mut split = Frames::default();
            let (one, other) = bytes.split_at(at);
            split.written(one);
            split.written(other);
            assert_eq!(
                (split.unfinished, split.skip, split.have),
                (frames.unfinished, frames.skip, frames.have),
                "{at}"
            );
        }
        frames.written(&frame(DATA, END_STREAM, b""));
        assert!(!frames.more_to_come());
    }

    #[tokio::test]
    async fn bulk_arrives_whole_and_in_order_and_no_buffer_stays() {
        let (near, mut far) = tokio::io::duplex(1024);
        let mut near = Gathered::new(near);
        let body: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
        let sent = frame(DATA, 0, &body);
        let mut got = vec![0; sent.len()];
        let write = async {
            near.write_all(&sent).await.unwrap();
            near.flush().await.unwrap();
            next_turn(&mut near);
            near.flush().await.unwrap();
        };
        tokio::join!(write, async { far.read_exact(&mut got).await.unwrap() });
        assert!(got == sent);
        assert_eq!(near.held.capacity(), 0);
    }

    #[tokio::test]
    async fn what_is_held_leaves_before_the_close() {
        let (near, mut far) = tokio::io::duplex(1024);
        let mut near = Gathered::new(near);
        near.write_all(&frame(HEADERS, 4, b"head")).await.unwrap();
        near.shutdown().await.unwrap();
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, frame(HEADERS, 4, b"head"));
    }
}
