//! A request's body on its way to an endpoint.
//!
//! A part is taken from the body before room for it is asked for: room that is held for nothing would be missing to the
//! connection's other streams.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::SendStream;
use http_body::{Body, Frame};

use crate::http::body::RequestBody;

/// What is left of it.
#[derive(Debug)]
pub(super) struct Upload {
    body: RequestBody,
    stream: SendStream<Bytes>,
    /// Waits for room.
    part: Option<Bytes>,
}

/// Nothing more can be sent: the stream or its connection has ended.
struct Over;

impl From<h2::Error> for Over {
    fn from(_: h2::Error) -> Self {
        Self
    }
}

impl Upload {
    pub(super) fn new(body: RequestBody, stream: SendStream<Bytes>) -> Self {
        Self { body, stream, part: None }
    }

    /// Ready when nothing more will be sent, whatever the reason.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_send(cx).map(drop)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Over>> {
        loop {
            if self.stream.poll_reset(cx)?.is_ready() {
                return Poll::Ready(Err(Over));
            }
            if let Some(part) = self.part.take() {
                if !part.is_empty() && self.poll_room(cx)?.is_pending() {
                    self.part = Some(part);
                    return Poll::Pending;
                }
                let ends = self.body.is_end_stream();
                self.stream.send_data(part, ends)?;
                if ends {
                    return Poll::Ready(Ok(()));
                }
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if self.takes(frame)? {
                        return Poll::Ready(Ok(()));
                    }
                }
                Some(Err(error)) => {
                    self.stream.send_reset(error.reason());
                    return Poll::Ready(Err(Over));
                }
                None => return Poll::Ready(Ok(self.stream.send_data(Bytes::new(), true)?)),
            }
        }
    }

    /// Whether it was the last.
    fn takes(&mut self, frame: Frame<Bytes>) -> Result<bool, Over> {
        match frame.into_data() {
            Ok(part) => {
                if !part.is_empty() {
                    // The least that asks for room at all; h2 asks for the rest when it has the part.
                    self.stream.reserve_capacity(1);
                }
                self.part = Some(part);
                Ok(false)
            }
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => {
                    self.stream.reserve_capacity(0);
                    self.stream.send_trailers(trailers)?;
                    Ok(true)
                }
                Err(_unknown) => Ok(false),
            },
        }
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Over>> {
        while self.stream.capacity() == 0 {
            ready!(self.stream.poll_capacity(cx)).ok_or(Over)??;
        }
        Poll::Ready(Ok(()))
    }
}
