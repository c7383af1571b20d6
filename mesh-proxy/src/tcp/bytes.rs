//! A connection to or from anybody: TCP itself, or a stream of a tunnel; with bytes that were read of it ahead.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::http::http2::StreamBytes;
use crate::vanish::FarStream;

/// See the module.
#[derive(Debug)]
pub(crate) enum Bytes {
    Tcp(TcpStream),
    /// A caller's stream.
    Stream(TokioIo<Upgraded>),
    /// A stream to an endpoint.
    Http2(Box<StreamBytes>),
    /// TCP to an endpoint, under watch.
    Far(Box<FarStream>),
    /// The first bytes were read already.
    Begun(bytes::Bytes, Box<Bytes>),
}

impl Bytes {
    /// The other side broke: an end without a reset would look like all there was. A stream of a tunnel has no such sign.
    pub(crate) fn reset(&self) {
        match self {
            Self::Tcp(stream) => reset(stream),
            Self::Far(stream) => reset(stream.socket()),
            Self::Begun(_, rest) => rest.reset(),
            Self::Stream(_) | Self::Http2(_) => {}
        }
    }

    /// `io`, of which `first` was read ahead.
    pub(crate) fn begun(first: bytes::Bytes, io: Self) -> Self {
        if first.is_empty() { io } else { Self::Begun(first, Box::new(io)) }
    }

    /// Ready when reading may bring something, so that no buffer is needed before. Only TCP can tell.
    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Far(stream) => stream.socket().poll_read_ready(cx),
            Self::Stream(_) | Self::Http2(_) | Self::Begun(..) => Poll::Ready(Ok(())),
        }
    }
}

/// Makes closing `stream` a reset.
pub(crate) fn reset(stream: &TcpStream) {
    // Fails on a socket that is dead already.
    let _ = stream.set_zero_linger();
}

impl AsyncRead for Bytes {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Stream(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Http2(stream) => Pin::new(&mut **stream).poll_read(cx, buffer),
            Self::Far(stream) => Pin::new(&mut **stream).poll_read(cx, buffer),
            Self::Begun(first, rest) if first.is_empty() => Pin::new(&mut **rest).poll_read(cx, buffer),
            Self::Begun(first, _) => {
                let length = first.len().min(buffer.remaining());
                buffer.put_slice(&first.split_to(length));
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Bytes {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Stream(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Http2(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
            Self::Far(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
            Self::Begun(_, rest) => Pin::new(&mut **rest).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Stream(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Http2(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, slices),
            Self::Far(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, slices),
            Self::Begun(_, rest) => Pin::new(&mut **rest).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Far(stream) => stream.is_write_vectored(),
            Self::Stream(stream) => stream.is_write_vectored(),
            Self::Http2(stream) => stream.is_write_vectored(),
            Self::Begun(_, rest) => rest.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Stream(stream) => Pin::new(stream).poll_flush(cx),
            Self::Http2(stream) => Pin::new(&mut **stream).poll_flush(cx),
            Self::Far(stream) => Pin::new(&mut **stream).poll_flush(cx),
            Self::Begun(_, rest) => Pin::new(&mut **rest).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Stream(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Http2(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            Self::Far(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            Self::Begun(_, rest) => Pin::new(&mut **rest).poll_shutdown(cx),
        }
    }
}
