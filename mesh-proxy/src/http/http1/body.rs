//! The body of a request that was received over HTTP/1.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::http::http1::WireError;
use crate::http::http1::link::Link;

/// Reads from its connection when it is polled, in whichever task that is.
#[derive(Debug)]
pub(crate) struct Received(Rc<RefCell<Link>>);

impl Received {
    pub(super) fn new(link: Rc<RefCell<Link>>) -> Self {
        Self(link)
    }

    /// See [`http_body::Body`].
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, WireError>>> {
        self.0.borrow_mut().poll_body(cx)
    }

    /// See [`http_body::Body`].
    pub(crate) fn is_end_stream(&self) -> bool {
        self.0.borrow().body.as_ref().is_none_or(|reading| reading.is_done())
    }

    /// See [`http_body::Body`].
    pub(crate) fn size_hint(&self) -> SizeHint {
        let left = self.0.borrow().body.as_ref().map_or(Some(0), |reading| reading.left());
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        let mut link = self.0.borrow_mut();
        if let Some(reading) = &mut link.body {
            reading.dropped = true;
        }
        if let Some(waiting) = link.waiting.take() {
            waiting.wake();
        }
    }
}
