//! An accepted connection, as its task and the body of its current request share it.
//!
//! Never both at once: the task leaves reading to the body until that has ended, and the body writes nothing but the
//! `100 Continue` that it waits behind.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use http_body::Frame;
use tokio::io::AsyncWrite;
use tokio::time::Instant;
use weft_http::http1::{Decoded, Decoder};
use weft_http::{Malformed, Refused};

use crate::http::http1::clock::Clock;
use crate::http::http1::{Inbox, WireError};
use crate::tcp::bytes::Bytes as Io;

/// The socket and what was read of it ahead.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) io: Io,
    pub(super) inbox: Inbox,
    /// The body of the current request.
    pub(super) body: Option<Reading>,
    /// The connection's task, where it waits for the body's end.
    pub(super) waiting: Option<Waker>,
}

/// A body that is being read.
#[derive(Debug)]
pub(super) struct Reading {
    decoder: Decoder,
    idle: Duration,
    pause: Option<Clock>,
    /// What is to be sent before the client will send the body.
    go_ahead: &'static [u8],
    /// Nobody reads any more.
    pub(super) dropped: bool,
    pub(super) broken: Option<Broken>,
}

/// How a body broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// The client left.
    Left,
    /// It was malformed, or did not come.
    Refused(Refused),
}

/// RFC 9110 10.1.1.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

impl Reading {
    pub(super) fn new(decoder: Decoder, expects_continue: bool, idle: Duration) -> Self {
        let go_ahead = if expects_continue { CONTINUE } else { b"" };
        Self { decoder, idle, pause: None, go_ahead, dropped: false, broken: None }
    }

    pub(super) fn is_done(&self) -> bool {
        self.decoder.is_done()
    }

    pub(super) fn left(&self) -> Option<u64> {
        self.decoder.left()
    }

    /// The final response is due: no `100 Continue` may follow it. Whether the client was never told to send its body.
    pub(super) fn answered(&mut self) -> bool {
        !std::mem::take(&mut self.go_ahead).is_empty()
    }
}

impl Link {
    /// The next part of the body.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<bytes::Bytes>, WireError>>> {
        let Some(reading) = &mut self.body else { return Poll::Ready(None) };
        let polled = ready!(reading.poll(&mut self.io, &mut self.inbox, cx));
        if let Err(error) = &polled {
            reading.broken = Some(match error {
                WireError::Refused(refused) => Broken::Refused(*refused),
                WireError::Io(_) | WireError::Incomplete(_) => Broken::Left,
            });
        }
        if (reading.is_done() || reading.broken.is_some())
            && let Some(waiting) = self.waiting.take()
        {
            waiting.wake();
        }
        Poll::Ready(polled.transpose())
    }
}

impl Reading {
    fn poll(
        &mut self,
        io: &mut Io,
        inbox: &mut Inbox,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame<bytes::Bytes>>, WireError>> {
        loop {
            match self.decoder.decode(inbox)? {
                Decoded::Data(data) => return Poll::Ready(Ok(Some(Frame::data(data)))),
                Decoded::End(trailers) => return Poll::Ready(Ok(trailers.map(Frame::trailers))),
                Decoded::More => {}
            }
            if !self.go_ahead.is_empty() {
                ready!(self.poll_go_ahead(io, inbox.is_empty(), cx))?;
            }
            match inbox.poll_fill(io, cx)? {
                Poll::Ready(0) => {
                    self.decoder.close()?;
                    return Poll::Ready(Ok(None));
                }
                Poll::Ready(_) => {
                    if let Some(pause) = &mut self.pause {
                        pause.set(Instant::now() + self.idle);
                    }
                }
                Poll::Pending => {
                    let idle = self.idle;
                    let pause = self.pause.get_or_insert_with(|| Clock::new(Instant::now() + idle));
                    ready!(pause.poll(cx));
                    return Poll::Ready(Err(SLOW.into()));
                }
            }
        }
    }

    /// Tells the client to send, unless it has begun without.
    fn poll_go_ahead(&mut self, io: &mut Io, waits: bool, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !waits && self.go_ahead.len() == CONTINUE.len() {
            self.go_ahead = b"";
        }
        while !self.go_ahead.is_empty() {
            let written = ready!(Pin::new(&mut *io).poll_write(cx, self.go_ahead))?;
            self.go_ahead = self.go_ahead.get(written.max(1)..).unwrap_or_default();
        }
        Poll::Ready(Ok(()))
    }
}

const SLOW: Refused = Refused::new(Malformed::SlowBody, "nothing of the body came for timeouts.idle");
