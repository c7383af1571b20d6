//! A stream as bytes: what a `CONNECT` opened.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// See the module.
#[derive(Debug)]
pub(crate) struct StreamBytes {
    to: SendStream<Bytes>,
    from: RecvStream,
    /// Was received and not read yet.
    ahead: Bytes,
}

impl StreamBytes {
    pub(super) fn new(to: SendStream<Bytes>, from: RecvStream) -> Self {
        Self { to, from, ahead: Bytes::new() }
    }

    /// Why nothing more can be written.
    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        Poll::Ready(match ready!(self.to.poll_reset(cx)) {
            Ok(Reason::NO_ERROR | Reason::CANCEL | Reason::STREAM_CLOSED) => io::ErrorKind::BrokenPipe.into(),
            Ok(reason) => failed(reason.into()),
            Err(error) => failed(error),
        })
    }
}

fn failed(error: h2::Error) -> io::Error {
    if error.is_io() {
        error.into_io().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())
    } else {
        io::Error::other(error)
    }
}

impl AsyncRead for StreamBytes {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // A frame of nothing is not the end.
        while self.ahead.is_empty() {
            match ready!(self.from.poll_data(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Ok(data)) => self.ahead = data,
                // How the other proxy's library ends a stream whose other direction is still open.
                Some(Err(error)) if matches!(error.reason(), Some(Reason::NO_ERROR | Reason::CANCEL)) => {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(failed(error))),
            }
        }
        let length = self.ahead.len().min(buffer.remaining());
        buffer.put_slice(self.ahead.get(..length).unwrap_or_default());
        self.ahead.advance(length);
        self.from.flow_control().release_capacity(length).map_err(failed)?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StreamBytes {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.to.reserve_capacity(bytes.len());
        loop {
            match ready!(self.to.poll_capacity(cx)) {
                Some(Ok(0)) => {}
                Some(Ok(room)) => {
                    let part = Bytes::copy_from_slice(bytes.get(..room).unwrap_or(bytes));
                    let length = part.len();
                    return match self.to.send_data(part, false) {
                        Ok(()) => Poll::Ready(Ok(length)),
                        Err(_) => self.poll_broken(cx).map(Err),
                    };
                }
                Some(Err(_)) | None => return self.poll_broken(cx).map(Err),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's task writes what it was given.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.to.send_data(Bytes::new(), true).is_ok() {
            return Poll::Ready(Ok(()));
        }
        match ready!(self.to.poll_reset(cx)) {
            // The peer wanted no more of it.
            Ok(Reason::NO_ERROR) => Poll::Ready(Ok(())),
            Ok(Reason::CANCEL | Reason::STREAM_CLOSED) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Ok(reason) => Poll::Ready(Err(failed(reason.into()))),
            Err(error) => Poll::Ready(Err(failed(error))),
        }
    }
}
