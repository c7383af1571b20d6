//! How far an HTTP/1 connection is: whether a request ever came, and how many are being answered.
//!
//! hyper has one clock for the head of a request and for the pause before it, and its graceful shutdown waits for a head
//! that was begun. So a client that sends half a head could hold a connection for minutes; `serve.rs` ends such a
//! connection by what is counted here. A request counts until its response's body is gone.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::Service;

use crate::http::body::ResponseBody;

/// What is known of one connection.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    began: Cell<bool>,
    running: Cell<usize>,
}

impl Progress {
    /// Whether a whole head ever arrived.
    pub(crate) fn began(&self) -> bool {
        self.began.get()
    }

    /// Whether nothing is being answered.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.get() == 0
    }
}

/// One request, until it is dropped.
#[derive(Debug)]
pub(crate) struct Running(Rc<Progress>);

impl Running {
    fn new(progress: &Rc<Progress>) -> Self {
        progress.began.set(true);
        progress.running.set(progress.running.get() + 1);
        Self(progress.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get().saturating_sub(1));
    }
}

/// A service whose requests are counted.
#[derive(Debug)]
pub(crate) struct Counted<S> {
    pub(crate) service: S,
    pub(crate) progress: Rc<Progress>,
}

impl<S> Service<Request<Incoming>> for Counted<S>
where
    S: Service<Request<Incoming>, Response = Response<ResponseBody>, Error = Infallible>,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Answering<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        Answering { running: Some(Running::new(&self.progress)), answer: self.service.call(request) }
    }
}

pin_project_lite::pin_project! {
    /// Hands the count over to the response's body.
    pub(crate) struct Answering<F> {
        running: Option<Running>,
        #[pin]
        answer: F,
    }
}

impl<F> Future for Answering<F>
where
    F: Future<Output = Result<Response<ResponseBody>, Infallible>>,
{
    type Output = Result<Response<ResponseBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.answer.poll(cx))?;
        let running = this.running.take();
        Poll::Ready(Ok(response.map(|body| body.counted(running))))
    }
}
