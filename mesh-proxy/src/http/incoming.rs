//! The body of a message that was received, over either version of HTTP.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;

use crate::http::body::BodyError;
use crate::http::http1::{Exchange, Received};
use crate::http::http2;
use crate::tcp::bytes::Bytes as Io;

/// See the module.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// There is none.
    Empty,
    /// There is none, and its connection may become something else: a CONNECT or an upgrade over HTTP/1.
    Switch(oneshot::Receiver<Io>),
    /// A request's over HTTP/1.
    Http1(Received),
    /// A response's over HTTP/1.
    Answer(Box<Exchange>),
    /// There is none: the connection carries something else from now on.
    Switched(Io),
    /// A response's over HTTP/2.
    Http2(http2::Answer),
    /// A request's over HTTP/2, by hyper.
    Hyper(hyper::body::Incoming),
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty | Self::Switch(_) | Self::Switched(_) => Poll::Ready(None),
            Self::Http1(body) => body.poll_frame(cx).map_err(BodyError::Http1),
            Self::Answer(body) => body.poll_frame(cx),
            Self::Http2(body) => body.poll_frame(cx).map_err(BodyError::Http2),
            Self::Hyper(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::Hyper),
        }
        .map_ok(purged)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty | Self::Switch(_) | Self::Switched(_) => true,
            Self::Http1(body) => body.is_end_stream(),
            Self::Answer(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
            Self::Hyper(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty | Self::Switch(_) | Self::Switched(_) => SizeHint::with_exact(0),
            Self::Http1(body) => body.size_hint(),
            Self::Answer(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
            Self::Hyper(body) => body.size_hint(),
        }
    }
}

/// Trailers carry only what may stand there, whichever way they came.
fn purged(mut frame: Frame<Bytes>) -> Frame<Bytes> {
    if let Some(trailers) = frame.trailers_mut() {
        weft_http::trailers::purge(trailers);
    }
    frame
}
