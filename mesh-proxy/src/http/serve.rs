//! Serves one HTTP connection until it ends, gracefully when the process drains.
//!
//! The same for callers of all sides: the [`Service`] is the only difference. HTTP/2 is hyper's, HTTP/1 our own. On drain
//! HTTP/2 gets GOAWAY and HTTP/1 `connection: close`; what is open at the deadline is cut with the worker.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use http::{Method, Request, Response};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use weft_http::Refused;
use weft_http::http1::Limits;

use crate::http::body::ResponseBody;
use crate::http::exec::IdleExec;
use crate::http::gathered::Gathered;
use crate::http::http1::server::Http1;
use crate::http::incoming::Incoming;
use crate::http::watched::{Report, Watched};
use crate::settings::Settings;

/// What answers the requests of one connection.
pub(crate) trait Service: Clone + 'static {
    /// Answers one. There is always something to say.
    fn answer(self, request: Request<Incoming>) -> impl Future<Output = Response<ResponseBody>> + 'static;

    /// Answers what is no request, and takes note of it.
    fn refuse(&self, refused: Refused) -> Response<ResponseBody>;

    /// Takes note of a body that was malformed; its request has its answer.
    fn malformed(&self, refused: Refused);
}

/// Stands in for a request that could not be read, where one is recorded.
pub(crate) fn unread() -> Request<Incoming> {
    let mut request = Request::new(Incoming::Empty);
    // What logs show for "none"; it is a token, so it is a method.
    if let Ok(none) = Method::from_bytes(b"-") {
        *request.method_mut() = none;
    }
    request
}

/// The settings for accepted connections, made once a worker.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    http1: Http1,
    http2: http2::Builder<IdleExec>,
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
        let http1 = Http1 {
            limits: Limits::new(settings.limits.head_bytes as usize),
            header_read: settings.timeouts.header_read,
            idle: settings.timeouts.idle,
        };
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
            // The application's own date passes; a proxy adds none.
            .auto_date_header(false)
            .enable_connect_protocol();
        Self { http1, http2 }
    }

    /// HTTP/1 until the end.
    pub(crate) async fn http1<S: Service>(
        &self,
        stream: TcpStream,
        service: S,
        drained: impl Future<Output = ()> + Unpin,
    ) {
        self.http1.serve(stream, service, drained).await;
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
        S: Service,
    {
        let answer = service_fn(move |request: Request<hyper::body::Incoming>| {
            let answered = service.clone().answer(request.map(Incoming::Hyper));
            async move { Ok::<_, Infallible>(answered.await) }
        });
        let io = TokioIo::new(Watched::new(Gathered::new(io), report));
        let mut connection = pin!(self.http2.serve_connection(io, answer));
        tokio::select! {
            biased;
            ended = connection.as_mut() => return ended,
            () = drained => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    }
}
