//! The body of a response that comes over HTTP/2.
//!
//! A stream that is reset before its end broke off, whatever the code: only `NO_ERROR` says that all that matters was
//! sent (RFC 9113 8.1).

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Frame, SizeHint};

use crate::http::headers;

/// See the module.
#[derive(Debug)]
pub(crate) struct Answer {
    stream: RecvStream,
    /// Of the length that the head gave.
    left: Option<u64>,
    /// All data was read.
    read: bool,
    /// The trailers too.
    over: bool,
}

impl Answer {
    pub(super) fn new(stream: RecvStream, headers: &HeaderMap) -> Self {
        let over = stream.is_end_stream();
        // h2 refuses lengths that are none, or that differ from what comes.
        let length = headers.get(CONTENT_LENGTH).and_then(headers::number);
        Self { left: if over { length.or(Some(0)) } else { length }, read: over, over, stream }
    }

    /// See [`http_body::Body`].
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if !self.read {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => return Poll::Ready(Some(self.takes(data))),
                Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => {
                    self.over = true;
                    // It gave a length and belies it.
                    let broken = self.left.is_some_and(|left| left > 0);
                    return Poll::Ready(broken.then(|| Err(Reason::INTERNAL_ERROR.into())));
                }
                Some(Err(error)) => {
                    self.over = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => self.read = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        self.over = true;
        Poll::Ready(trailers.map(|trailers| trailers.map(Frame::trailers)).transpose())
    }

    fn takes(&mut self, data: Bytes) -> Result<Frame<Bytes>, h2::Error> {
        self.stream.flow_control().release_capacity(data.len())?;
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(data.len() as u64);
        }
        Ok(Frame::data(data))
    }

    /// See [`http_body::Body`].
    pub(crate) fn is_end_stream(&self) -> bool {
        self.over || self.stream.is_end_stream()
    }

    /// See [`http_body::Body`].
    pub(crate) fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
