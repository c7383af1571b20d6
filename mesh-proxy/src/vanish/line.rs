//! A TCP connection that says when it has written, so that only those that wait for an acknowledgement are looked at.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::vanish::kernel::{Handle, Owned};

/// A connection under watch.
#[derive(Debug)]
pub(crate) struct FarStream {
    socket: Owned,
    line: Arc<Line>,
}

/// What others see of it. It is shared by tasks of one thread; hyper wants it to be `Send` all the same.
#[derive(Debug)]
pub(crate) struct Line {
    pub(super) handle: Arc<Handle>,
    /// Something was written since all was last seen acknowledged.
    pub(super) written: AtomicBool,
    pub(super) doubted: AtomicBool,
    /// Wakes the watch.
    bell: Arc<Notify>,
}

impl FarStream {
    pub(super) fn new(stream: TcpStream, bell: Arc<Notify>) -> Self {
        let socket = Owned::new(stream);
        let (written, doubted) = (AtomicBool::new(false), AtomicBool::new(false));
        let line = Arc::new(Line { handle: socket.handle(), written, doubted, bell });
        Self { socket, line }
    }

    /// For its options.
    pub(crate) fn socket(&self) -> &TcpStream {
        self.socket.get()
    }

    /// For those who choose between connections.
    pub(crate) fn line(&self) -> Arc<Line> {
        self.line.clone()
    }
}

impl Line {
    /// Whether the other end has been silent where it should have acknowledged.
    pub(crate) fn is_doubted(&self) -> bool {
        self.doubted.load(Ordering::Relaxed)
    }

    fn wrote(&self) {
        if !self.written.swap(true, Ordering::Relaxed) {
            self.bell.notify_one();
        }
    }
}

impl AsyncRead for FarStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().socket.stream()).poll_read(cx, buffer)
    }
}

impl AsyncWrite for FarStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.line.wrote();
        Pin::new(this.socket.stream()).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.line.wrote();
        Pin::new(this.socket.stream()).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.get().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().socket.stream()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().socket.stream()).poll_shutdown(cx)
    }
}
