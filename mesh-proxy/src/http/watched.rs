//! The socket of an HTTP/2 connection with a [`Watch`] beside it, and what happens on its verdict.
//!
//! On a verdict reading ends at a frame's end, which HTTP/2 takes for the peer's goodbye: it ends its streams, writes what
//! it had begun to write, and closes. That is a frame's border by construction, so here the GOAWAY is put before the close.
//! What the peer still sends is read and thrown away for a moment, or its own reset would eat our last word. All of it
//! together may take [`LAST_WORD`].

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use weft_http::Malformed;
use weft_http::http2::{Bounds, Passed, Side, Watch, goaway};

use crate::shared::Shared;
use crate::telemetry::Message;
use crate::worker::now;

/// From the verdict to the end of the connection, whatever the peer does.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Who is told of what was refused.
#[derive(Clone)]
pub(crate) struct Report {
    shared: Arc<Shared>,
    peer: Option<SocketAddr>,
    side: Side,
}

impl Report {
    /// For a connection that was accepted or dialled.
    pub(crate) fn new(shared: Arc<Shared>, side: Side, peer: Option<SocketAddr>) -> Self {
        Self { shared, peer, side }
    }

    fn refused(&self, kind: Malformed, words: &str) {
        let message = match self.side {
            Side::Accepted => Message::Request,
            Side::Dialled => Message::Response,
        };
        self.shared.telemetry.malformed(message, kind, self.peer, words);
    }
}

/// A watched socket.
pub(crate) struct Watched<I> {
    io: I,
    watch: Watch,
    report: Report,
    /// Since the verdict.
    end: Option<Ending>,
}

struct Ending {
    deadline: Pin<Box<Sleep>>,
    /// How much of the GOAWAY is written.
    written: usize,
    closed: bool,
}

impl<I> Watched<I> {
    /// Watches a connection that begins now.
    pub(crate) fn new(io: I, report: Report) -> Self {
        let bounds = Bounds::new(report.shared.settings.limits.head_bytes);
        let watch = Watch::new(report.side, bounds, now());
        Self { io, watch, report, end: None }
    }

    /// Looks at what was read into `buf` after its first `before` bytes.
    fn received(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let passed = self.watch.received(buf.filled().get(before..).unwrap_or_default(), now);
        if let Passed::Until(keep) = passed {
            buf.set_filled(before + keep);
        }
        if let (Some(kind), None) = (self.watch.verdict(), &self.end) {
            self.report.refused(kind, "it sends more of it than any use accounts for; the connection ends");
            let deadline = Box::pin(tokio::time::sleep(LAST_WORD));
            self.end = Some(Ending { deadline, written: 0, closed: false });
        }
    }

    fn sent(&mut self, bytes: &[u8]) {
        let report = &self.report;
        self.watch.sent(bytes, |kind| report.refused(kind, "HTTP/2 says so"));
    }

    /// An error when a verdict's time is over.
    fn in_time(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(end) = &mut self.end else { return Ok(()) };
        if end.deadline.as_mut().poll(cx).is_ready() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.in_time(cx)?;
        if this.watch.is_over() {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        this.received(buf, before);
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.in_time(cx)?;
        let n = ready!(Pin::new(&mut self.io).poll_write(cx, bytes))?;
        self.sent(bytes.get(..n).unwrap_or_default());
        Poll::Ready(Ok(n))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.in_time(cx)?;
        let n = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, slices))?;
        let mut left = n;
        for slice in slices {
            let part = slice.len().min(left);
            self.sent(slice.get(..part).unwrap_or_default());
            left -= part;
        }
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(cx)?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.in_time(cx)?;
        let last_word = (!this.watch.has_said_goaway()).then(|| goaway(this.watch.last_stream()));
        let Some(end) = &mut this.end else { return Pin::new(&mut this.io).poll_shutdown(cx) };
        if let Some(frame) = last_word {
            while let Some(rest) = frame.get(end.written..).filter(|rest| !rest.is_empty()) {
                end.written += ready!(Pin::new(&mut this.io).poll_write(cx, rest))?;
            }
            ready!(Pin::new(&mut this.io).poll_flush(cx))?;
        }
        if !end.closed {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
            end.closed = true;
        }
        throw_away(&mut this.io, cx)
    }
}

/// Until the peer has closed too. An error is as good: it is gone.
fn throw_away<I: AsyncRead + Unpin>(io: &mut I, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut space = [std::mem::MaybeUninit::uninit(); 4096];
    // Others have their turn after so many.
    for _ in 0..16 {
        let mut buf = ReadBuf::uninit(&mut space);
        match ready!(Pin::new(&mut *io).poll_read(cx, &mut buf)) {
            Ok(()) if !buf.filled().is_empty() => {}
            Ok(()) | Err(_) => return Poll::Ready(Ok(())),
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}
