//! The bytes of a stream's requests on their way to tonic: what is announced is judged before it is kept.
//!
//! tonic keeps a message until it is whole, for as long as that takes. So here its five-byte head is read (gRPC over
//! HTTP/2, Length-Prefixed-Message): a compressed one is refused, since none was agreed on and what it unpacks to is
//! anyone's guess; one that is too large is refused before its first byte is kept; one that does not become whole in time
//! ends the stream; and large ones share a budget over all streams. What a message means is not looked at.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::{Body as HttpBody, Buf, Bytes, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower_service::Service;

/// A service whose request bodies are watched.
#[derive(Debug, Clone)]
pub(crate) struct Framed<S> {
    inner: S,
    budget: Arc<Semaphore>,
}

impl<S> Framed<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, budget: Arc::new(Semaphore::new(BUDGET)) }
    }
}

impl<S: NamedService> NamedService for Framed<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Framed<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        let budget = Arc::clone(&self.budget);
        self.inner.call(request.map(|body| Body::new(Watched::new(body, budget))))
    }
}

/// A body whose messages are followed.
struct Watched<B> {
    inner: B,
    budget: Arc<Semaphore>,
    messages: Messages,
    /// Of the message that is not whole yet.
    deadline: Option<Pin<Box<Sleep>>>,
    held: Option<OwnedSemaphorePermit>,
}

impl<B> Watched<B> {
    fn new(inner: B, budget: Arc<Semaphore>) -> Self {
        Self { inner, budget, messages: Messages::default(), deadline: None, held: None }
    }

    /// Follows what came; keeps the clock and the share of the budget in step.
    fn follow(&mut self, bytes: &[u8]) -> Result<(), Status> {
        let seen = self.messages.follow(bytes)?;
        if seen.ended {
            (self.deadline, self.held) = (None, None);
        }
        if !self.messages.is_between() && self.deadline.is_none() {
            self.deadline = Some(Box::pin(sleep_until(Instant::now() + WHOLE_WITHIN)));
        }
        if self.messages.left > SMALL && self.held.is_none() {
            let permits = u32::try_from(self.messages.left).unwrap_or(u32::MAX);
            let held = Arc::clone(&self.budget).try_acquire_many_owned(permits);
            let full = "too many large requests at once; try again later";
            self.held = Some(held.map_err(|_| Status::resource_exhausted(full))?);
        }
        Ok(())
    }
}

impl<B> HttpBody for Watched<B>
where
    B: HttpBody<Data = Bytes, Error = Status> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let followed = frame.data_ref().map_or(Ok(()), |data| this.follow(data.chunk()));
                Poll::Ready(Some(followed.map(|()| frame)))
            }
            Poll::Pending => match this.deadline.as_mut().map(|deadline| deadline.as_mut().poll(cx)) {
                Some(Poll::Ready(())) => Poll::Ready(Some(Err(Status::deadline_exceeded(
                    "a request was begun and not ended in time",
                )))),
                _ => Poll::Pending,
            },
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Where in the row of messages the body is.
#[derive(Debug, Default)]
struct Messages {
    head: [u8; HEAD],
    /// Bytes of the head that are there.
    of_head: usize,
    /// Bytes of the message that are still to come.
    left: usize,
}

/// What a piece of the body held.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// A message became whole in it.
    ended: bool,
}

impl Messages {
    fn is_between(&self) -> bool {
        self.of_head == 0
    }

    fn follow(&mut self, mut bytes: &[u8]) -> Result<Seen, Status> {
        let mut ended = false;
        while let Some((&next, rest)) = bytes.split_first() {
            if self.of_head < HEAD {
                if let Some(place) = self.head.get_mut(self.of_head) {
                    *place = next;
                }
                self.of_head += 1;
                bytes = rest;
                if self.of_head == HEAD {
                    self.left = announced(self.head)?;
                }
            } else {
                let here = self.left.min(bytes.len());
                self.left -= here;
                bytes = bytes.get(here..).unwrap_or_default();
            }
            if self.of_head == HEAD && self.left == 0 {
                self.of_head = 0;
                ended = true;
            }
        }
        Ok(Seen { ended })
    }
}

/// The length that a message's head announces.
fn announced([flag, length @ ..]: [u8; HEAD]) -> Result<usize, Status> {
    match flag {
        0 => {}
        1 => return Err(Status::unimplemented("compressed requests are not taken")),
        _ => return Err(Status::internal("the request is not framed as gRPC")),
    }
    match usize::try_from(u32::from_be_bytes(length)) {
        Ok(length) if length <= LARGEST_REQUEST => Ok(length),
        _ => Err(Status::resource_exhausted(format!("a request has more than {LARGEST_REQUEST} bytes"))),
    }
}

/// A flag and a length.
const HEAD: usize = 5;
/// 10,000 subscriptions of 100 bytes, and as many versions.
pub(crate) const LARGEST_REQUEST: usize = 4 << 20;
/// Not counted: 20,000 proxies that come back at once with such requests each hold 1.3 GB for a moment.
const SMALL: usize = 64 << 10;
/// Of all larger ones that are not whole yet: 32 of the largest.
const BUDGET: usize = 128 << 20;
/// The largest request over a line of 4 Mbit/s.
const WHOLE_WITHIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
