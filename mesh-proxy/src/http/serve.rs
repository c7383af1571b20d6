//! Serves one HTTP connection until it ends, gracefully when the process drains.
//!
//! The same for callers of all sides: the service function is the only difference. On drain HTTP/2 gets GOAWAY and
//! HTTP/1 `connection: close` with its next response; what is open at the deadline is cut with the worker.

use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::http::body::ResponseBody;
use crate::http::exec::IdleExec;
use crate::http::progress::{Counted, Progress};
use crate::http::watched::{Report, Watched};
use crate::settings::Settings;

/// hyper's settings for accepted connections, made once a worker.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    http1: http1::Builder,
    http2: http2::Builder<IdleExec>,
    header_read: Duration,
}

/// What a stream may have on its way to us without being read.
pub(crate) const STREAM_WINDOW: u32 = 256 << 10;
/// What all streams of a connection may have on their way to us. As much as all streams that a proxy opens on one
/// connection: so streams that nobody reads, however many, never take the window from one that is read.
pub(crate) const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MOST_STREAMS;
/// HBONE's rule: a proxy opens no more streams on one connection, whatever the peer allows.
pub(crate) const MOST_STREAMS: u32 = 100;
/// What a stream may have written that the peer has not taken from the socket.
pub(crate) const SEND_BUFFER: usize = 64 << 10;
/// A peer that vanished without a word is noticed by pings (HBONE's figures).
pub(crate) const PING_EVERY: Duration = Duration::from_secs(10);
/// See [`PING_EVERY`].
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(20);

impl Server {
    /// For these settings.
    pub(crate) fn new(settings: &Settings) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            // hyper's clock for heads also runs between requests, so it can't be the short one of `header_read`: that
            // one bounds a connection's first head (see `http1`), and this one the later ones.
            .header_read_timeout(settings.timeouts.header_read.max(KEEP_ALIVE))
            .max_buf_size((settings.limits.head_bytes as usize).max(SMALLEST_BUFFER))
            .half_close(true)
            // The application's own date passes; a proxy adds none.
            .auto_date_header(false);
        let mut http2 = http2::Builder::new(IdleExec::new(settings.timeouts.idle));
        http2
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(settings.limits.streams)
            .max_header_list_size(settings.limits.head_bytes)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .auto_date_header(false)
            .enable_connect_protocol();
        Self { http1, http2, header_read: settings.timeouts.header_read }
    }

    /// HTTP/1 until the end, or until its client has not sent a first whole head in time.
    pub(crate) async fn http1<I, S>(
        &self,
        io: I,
        service: S,
        drained: impl Future<Output = ()>,
    ) -> hyper::Result<()>
    where
        I: Read + Write + Unpin + Send + 'static,
        S: Service<Request<Incoming>, Response = Response<ResponseBody>, Error = std::convert::Infallible>,
        S::Future: 'static,
    {
        let progress = Rc::new(Progress::default());
        let service = Counted { service, progress: progress.clone() };
        let connection = pin!(self.http1.serve_connection(io, service).with_upgrades());
        let drained =
            until_drained(connection, drained, |connection| connection.graceful_shutdown(), &progress);
        tokio::select! {
            biased;
            ended = drained => ended,
            () = no_first_head(self.header_read, &progress) => Ok(()),
        }
    }

    /// HTTP/2 until the end, watched.
    pub(crate) async fn http2<I, S>(
        &self,
        io: I,
        report: Report,
        service: S,
        drained: impl Future<Output = ()>,
    ) -> hyper::Result<()>
    where
        I: AsyncRead + AsyncWrite + Unpin + 'static,
        S: Service<Request<Incoming>, Response = Response<ResponseBody>, Error = std::convert::Infallible>,
        S::Future: 'static,
    {
        let io = TokioIo::new(Watched::new(io, report));
        let mut connection = pin!(self.http2.serve_connection(io, service));
        tokio::select! {
            biased;
            ended = connection.as_mut() => return ended,
            () = drained => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    }
}

async fn until_drained<C: Future<Output = hyper::Result<()>>>(
    mut connection: Pin<&mut C>,
    drained: impl Future<Output = ()>,
    shut_down: impl FnOnce(Pin<&mut C>),
    progress: &Progress,
) -> hyper::Result<()> {
    tokio::select! {
        biased;
        ended = connection.as_mut() => return ended,
        () = drained => {}
    }
    shut_down(connection.as_mut());
    tokio::select! {
        biased;
        ended = connection => ended,
        () = idle(progress) => Ok(()),
    }
}

/// Ready when nothing has been answered for a while: what hyper still waits for is the rest of a head.
async fn idle(progress: &Progress) {
    loop {
        tokio::time::sleep(REST_OF_A_HEAD).await;
        if progress.is_idle() {
            return;
        }
    }
}

/// Ready when the time for a first head is over and there was none.
async fn no_first_head(time: Duration, progress: &Progress) {
    tokio::time::sleep(time).await;
    if progress.began() {
        std::future::pending::<()>().await;
    }
}

/// A draining connection that answers nothing is closed after so long; the last bytes of a response have left by then.
const REST_OF_A_HEAD: Duration = Duration::from_secs(2);
/// An HTTP/1 connection without a request is kept for so long: longer than clients keep theirs, so that they close first.
const KEEP_ALIVE: Duration = Duration::from_secs(300);
/// hyper refuses smaller read buffers.
const SMALLEST_BUFFER: usize = 8192;
