//! One request and its response on a connection to an endpoint.
//!
//! Who waits for the response drives the request, and who reads the response's body drives the rest of the request: no
//! task, no channel. A response is as strictly read as a request. The connection goes back to its pool when both are
//! whole, nothing stands behind the response, and the endpoint would go on; otherwise it is closed.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::time::Instant;
use weft_http::http1::{Decoded, Decoder, Framing, Limits, ResponseHead, Scan, response};
use weft_http::{Malformed, Refused};

use crate::http::body::{BodyError, RequestBody};
use crate::http::http1::WireError;
use crate::http::http1::clock::Clock;
use crate::http::http1::upload::{NotWritten, Upload};
use crate::http::incoming::Incoming;
use crate::pool::Http1;

/// A request under way, and then the body of its response.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// `None` when it went back to its pool, or was taken over by what is spoken after a switch.
    connection: Option<Http1>,
    upload: Option<Upload>,
    method: Method,
    /// The request wishes to switch.
    wants_switch: bool,
    limits: Limits,
    scan: Scan,
    interim: u32,
    decoder: Decoder,
    /// The connection may carry another request.
    reusable: bool,
    idle: Duration,
    pause: Option<Clock>,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoResponse {
    /// The endpoint has seen nothing of the request.
    #[error("the connection broke before the request: {0}")]
    Unsent(#[source] io::Error),
    /// The connection broke.
    #[error("the connection broke before the response: {0}")]
    Broken(#[source] io::Error),
    /// The endpoint ended it.
    #[error("the endpoint closed the connection before the response")]
    Closed,
    /// It sent something else.
    #[error("the response is malformed: {0}")]
    Refused(Refused),
    /// The request broke off.
    #[error("the request's body broke off")]
    Body,
}

/// More interim responses than this are no answer.
const MOST_INTERIM: u32 = 16;

/// Sends a request and waits for its response.
pub(crate) fn send(
    connection: Http1,
    request: Request<RequestBody>,
) -> impl Future<Output = Result<Response<Incoming>, NoResponse>> {
    // Not in an async function: its future would keep room for what it was called with.
    let mut exchange = Box::new(Exchange::new(connection, request));
    async move {
        let head = poll_fn(|cx| exchange.poll_head(cx)).await?;
        exchange.respond(head)
    }
}

impl Exchange {
    fn new(connection: Http1, request: Request<RequestBody>) -> Self {
        let (limits, idle) = connection.bounds();
        Self {
            connection: Some(connection),
            method: request.method().clone(),
            wants_switch: request.headers().contains_key(http::header::UPGRADE),
            upload: Some(Upload::new(request, idle)),
            limits,
            scan: Scan::default(),
            interim: 0,
            decoder: Decoder::new(Framing::None, limits),
            reusable: false,
            idle,
            pause: None,
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, NoResponse>> {
        // The endpoint may refuse to read the request, and answer.
        let unwritten = match self.poll_upload(cx) {
            Poll::Ready(Err(NotWritten::Body(_))) => return Poll::Ready(Err(NoResponse::Body)),
            Poll::Ready(Err(NotWritten::Io(error))) => Some(error),
            Poll::Ready(Ok(())) | Poll::Pending => None,
        };
        let unsent = self.upload.as_ref().is_some_and(|upload| !upload.begun());
        match unwritten {
            Some(error) if unsent => Poll::Ready(Err(NoResponse::Unsent(error))),
            Some(error) => match self.poll_read_head(cx) {
                Poll::Ready(Ok(head)) => Poll::Ready(Ok(head)),
                Poll::Ready(Err(NoResponse::Refused(refused))) => {
                    Poll::Ready(Err(NoResponse::Refused(refused)))
                }
                Poll::Ready(Err(_)) | Poll::Pending => Poll::Ready(Err(NoResponse::Broken(error))),
            },
            None => self.poll_read_head(cx),
        }
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NotWritten>> {
        let (Some(upload), Some(connection)) = (&mut self.upload, &mut self.connection) else {
            return Poll::Ready(Ok(()));
        };
        let Some(wire) = connection.wire() else { return Poll::Ready(Ok(())) };
        ready!(upload.poll(&mut wire.io, cx))?;
        self.upload = None;
        Poll::Ready(Ok(()))
    }

    fn poll_read_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, NoResponse>> {
        let Some(wire) = self.connection.as_mut().and_then(Http1::wire) else {
            return Poll::Ready(Err(NoResponse::Closed));
        };
        loop {
            let taken = response::take(&mut wire.inbox, &mut self.scan, &self.method, &self.limits);
            match taken.map_err(NoResponse::Refused)? {
                Some(head) if head.is_interim() => {
                    self.interim += 1;
                    if self.interim > MOST_INTERIM {
                        return Poll::Ready(Err(NoResponse::Refused(NO_END)));
                    }
                    continue;
                }
                Some(head) if head.status == StatusCode::SWITCHING_PROTOCOLS && !self.wants_switch => {
                    return Poll::Ready(Err(NoResponse::Refused(UNASKED)));
                }
                Some(head) => return Poll::Ready(Ok(head)),
                None => {}
            }
            match ready!(wire.inbox.poll_fill(&mut wire.io, cx)).map_err(NoResponse::Broken)? {
                0 => return Poll::Ready(Err(NoResponse::Closed)),
                _ => continue,
            }
        }
    }

    fn respond(mut self: Box<Self>, head: ResponseHead) -> Result<Response<Incoming>, NoResponse> {
        let mut response = Response::new(Incoming::Empty);
        let switched = head.status == StatusCode::SWITCHING_PROTOCOLS
            || (self.method == Method::CONNECT && head.status.is_success());
        self.reusable = head.keep_alive && !switched;
        self.decoder = Decoder::new(head.framing, self.limits);
        *response.status_mut() = head.status;
        *response.version_mut() = head.version;
        *response.headers_mut() = head.headers;
        if switched {
            if let Some(io) = self.connection.take().and_then(Http1::into_io) {
                *response.body_mut() = Incoming::Switched(io);
            }
        } else if self.decoder.is_done() {
            self.finish();
        } else {
            if let Some(wire) = self.connection.as_mut().and_then(Http1::wire) {
                // What came with the head is looked at before anything is passed on.
                self.decoder.check(&wire.inbox).map_err(NoResponse::Refused)?;
            }
            *response.body_mut() = Incoming::Answer(self);
        }
        Ok(response)
    }

    /// See [`http_body::Body`].
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.decoder.is_done() {
            return Poll::Ready(None);
        }
        match self.poll_upload(cx) {
            Poll::Ready(Err(NotWritten::Body(error))) => {
                self.connection = None;
                return Poll::Ready(Some(Err(error.unwrap_or(BodyError::Superseded))));
            }
            // It is not read any more; the response may still be whole.
            Poll::Ready(Err(NotWritten::Io(_))) => (self.upload, self.reusable) = (None, false),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        let polled = ready!(self.poll_decode(cx));
        if polled.is_err() {
            self.connection = None;
        } else if self.decoder.is_done() {
            self.finish();
        }
        Poll::Ready(polled.map_err(BodyError::Http1).transpose())
    }

    fn poll_decode(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, WireError>> {
        let Some(wire) = self.connection.as_mut().and_then(Http1::wire) else {
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::NotConnected).into()));
        };
        loop {
            match self.decoder.decode(&mut wire.inbox)? {
                Decoded::Data(data) => return Poll::Ready(Ok(Some(Frame::data(data)))),
                Decoded::End(trailers) => return Poll::Ready(Ok(trailers.map(Frame::trailers))),
                Decoded::More => {}
            }
            match wire.inbox.poll_fill(&mut wire.io, cx)? {
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
                    let late = io::Error::new(io::ErrorKind::TimedOut, "nothing came for timeouts.idle");
                    return Poll::Ready(Err(late.into()));
                }
            }
        }
    }

    /// The response is whole.
    fn finish(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        // A request that was answered before its end is given up with its connection.
        if self.reusable && self.upload.is_none() {
            connection.give_back();
        }
    }

    /// See [`http_body::Body`].
    pub(crate) fn is_end_stream(&self) -> bool {
        self.decoder.is_done()
    }

    /// See [`http_body::Body`].
    pub(crate) fn size_hint(&self) -> SizeHint {
        self.decoder.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

const NO_END: Refused = Refused::new(Malformed::StartLine, "interim responses without end");
const UNASKED: Refused = Refused::new(Malformed::StartLine, "a switch of protocols that nobody asked for");
