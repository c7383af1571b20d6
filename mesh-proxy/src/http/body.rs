//! The two body types of the data path: what goes to an endpoint and what goes back to a caller.
//!
//! Enums instead of boxed bodies: no allocation, no virtual call. A response's body carries the [`Call`], which ends
//! with it: only then is it known how the request went.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use weft_http::Refused;

use crate::http::call::{Call, chain};
use crate::http::exec::{self, Took};
use crate::http::http1::WireError;
use crate::http::incoming::Incoming;
use crate::http::replay::ReplayBody;
use crate::http::send::h2_error;

/// Why a body broke off.
#[derive(Debug)]
pub(crate) enum BodyError {
    /// The HTTP/2 connection of its caller did.
    Hyper(hyper::Error),
    /// The HTTP/2 stream or connection of its endpoint did.
    Http2(h2::Error),
    /// The HTTP/1 connection it came from did.
    Http1(WireError),
    /// The request was sent elsewhere meanwhile.
    Superseded,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hyper(error) => f.write_str(&chain(error)),
            Self::Http2(error) => f.write_str(&chain(error)),
            Self::Http1(error) => error.fmt(f),
            Self::Superseded => f.write_str("the request was sent to another endpoint"),
        }
    }
}

/// hyper looks through the sources for the code of its RST_STREAM. Codes pass from one side to the other, as gRPC's
/// libraries expect, but for the one that says "you broke the protocol": it was the other side who did.
impl Error for BodyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Hyper(error) if self.passes_on().is_some() => error.source(),
            Self::Http2(error) if self.passes_on().is_some() => Some(error),
            Self::Http1(error) => error.source(),
            Self::Hyper(_) | Self::Http2(_) | Self::Superseded => None,
        }
    }
}

impl BodyError {
    /// The code for a stream that ends with it.
    pub(crate) fn reason(&self) -> h2::Reason {
        self.passes_on().unwrap_or(h2::Reason::INTERNAL_ERROR)
    }

    /// The code of the stream that it came from, as far as it means the same to the other side.
    fn passes_on(&self) -> Option<h2::Reason> {
        let reason = match self {
            Self::Hyper(error) => h2_error(error).and_then(h2::Error::reason),
            Self::Http2(error) => error.reason(),
            Self::Http1(_) | Self::Superseded => None,
        };
        reason.filter(|reason| *reason != h2::Reason::PROTOCOL_ERROR)
    }

    /// What was wrong with the message, where something was.
    pub(crate) fn refused(&self) -> Option<Refused> {
        match self {
            Self::Http1(WireError::Refused(refused)) => Some(*refused),
            _ => None,
        }
    }
}

/// What is sent to an endpoint.
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// Nothing.
    Empty,
    /// What the caller sends.
    Replay(ReplayBody),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Replay(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Replay(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Replay(body) => body.size_hint(),
        }
    }
}

/// What is sent to a caller.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    source: Source,
    call: Option<Box<Call>>,
}

#[derive(Debug)]
enum Source {
    Empty,
    Text(Bytes),
    Incoming(Incoming),
}

impl ResponseBody {
    /// Nothing.
    pub(crate) fn empty() -> Self {
        Self::of(Source::Empty)
    }

    /// A text that the proxy made.
    pub(crate) fn text(text: String) -> Self {
        Self::of(Source::Text(text.into()))
    }

    /// What the endpoint sends.
    pub(crate) fn incoming(body: Incoming) -> Self {
        Self::of(Source::Incoming(body))
    }

    fn of(source: Source) -> Self {
        Self { source, call: None }
    }

    /// Hands over the call, which ends with this body.
    pub(crate) fn with_call(mut self, call: Box<Call>) -> Self {
        self.call = Some(call);
        self
    }

    fn saw(&mut self, frame: &Frame<Bytes>) {
        let Some(call) = &mut self.call else { return };
        if let Some(data) = frame.data_ref() {
            call.sent(data.len());
        } else if let Some(trailers) = frame.trailers_ref() {
            call.trailers(trailers);
        }
    }

    fn finish(&mut self) {
        if let Some(call) = self.call.take() {
            call.complete();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let polled = match &mut this.source {
            Source::Empty => None,
            Source::Text(text) => {
                let text = std::mem::take(text);
                (!text.is_empty()).then(|| Ok(Frame::data(text)))
            }
            Source::Incoming(body) => match Pin::new(body).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    exec::note(Took::Waits);
                    return Poll::Pending;
                }
            },
        };
        exec::note(Took::Frame);
        match polled {
            Some(Ok(frame)) => {
                this.saw(&frame);
                // HTTP/1 with a length and HTTP/2 are not asked again after the last frame.
                if this.is_end_stream() {
                    this.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                if let Some(call) = this.call.take() {
                    call.broken(&error);
                }
                Poll::Ready(Some(Err(error)))
            }
            None => {
                this.finish();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Text(text) => text.is_empty(),
            Source::Incoming(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Text(text) => SizeHint::with_exact(text.len() as u64),
            Source::Incoming(body) => body.size_hint(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // A body without bytes (HEAD, 204) is never polled; anything else was abandoned by the client.
        if self.is_end_stream() {
            self.finish();
        } else if let Some(call) = self.call.take() {
            call.abandoned();
        }
    }
}
