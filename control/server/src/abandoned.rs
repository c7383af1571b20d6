//! Requests that are reset before they are answered, counted for their connection.
//!
//! HTTP/2's rapid reset (CVE-2023-44487): h2 bounds the resets that come before a stream is accepted, and a server that
//! accepts quickly sees none of these. So the future of each request tells its connection when it is dropped unfinished,
//! polled or not; too many of them end it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Request;
use tower_layer::Layer;
use tower_service::Service;
use weft_ca::transport::{Handle, PeerIdentity};

/// Puts [`Noted`] around a service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoteAbandoned;

impl<S> Layer<S> for NoteAbandoned {
    type Service = Noted<S>;
    fn layer(&self, inner: S) -> Noted<S> {
        Noted(inner)
    }
}

/// A service whose unfinished requests are counted.
#[derive(Debug, Clone)]
pub(crate) struct Noted<S>(S);

impl<S, B> Service<Request<B>> for Noted<S>
where
    S: Service<Request<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Answering<S::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let connection = request.extensions().get::<PeerIdentity>().map(|peer| peer.connection.clone());
        Answering { answering: Box::pin(self.0.call(request)), connection }
    }
}

/// A request in progress.
pub(crate) struct Answering<R, E> {
    answering: Pin<Box<dyn Future<Output = Result<R, E>> + Send>>,
    /// Until it is answered.
    connection: Option<Handle>,
}

impl<R, E> Future for Answering<R, E> {
    type Output = Result<R, E>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<R, E>> {
        let answered = self.answering.as_mut().poll(cx);
        if answered.is_ready() {
            self.connection = None;
        }
        answered
    }
}

impl<R, E> Drop for Answering<R, E> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.abandoned();
        }
    }
}
