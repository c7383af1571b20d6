//! One accepted HTTP/1 connection: one request after the other until one side has had enough.
//!
//! A head has its time from its first byte on, an unused connection a longer one. What is refused is answered with the
//! status of its kind, then the connection ends, slowly enough for the client to read why: nobody knows where the next
//! message would start. On drain the answer that is under way is the last one.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, Version};
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::Instant;
use weft_http::http1::{Decoder, Framing, Limits, RequestHead, Scan, request};
use weft_http::{Malformed, Refused};

use crate::http::body::ResponseBody;
use crate::http::headers;
use crate::http::http1::clock::Clock;
use crate::http::http1::link::{Broken, Link, Reading};
use crate::http::http1::respond::{Asked, Writing, Written};
use crate::http::http1::{Inbox, Received};
use crate::http::incoming::Incoming;
use crate::http::serve::Service;
use crate::tcp::bytes::Bytes as Io;

/// The settings of such connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Http1 {
    pub(crate) limits: Limits,
    /// For a head, from its first byte.
    pub(crate) header_read: Duration,
    /// For a body that does not come, or a response that nobody reads.
    pub(crate) idle: Duration,
}

/// A connection without a request is kept for so long: longer than clients keep theirs, so that they close first.
const KEEP_ALIVE: Duration = Duration::from_secs(300);
/// What is left of a head when the process drains has so long to come.
const REST_OF_A_HEAD: Duration = Duration::from_secs(2);
/// A refused client has so long to read why before the connection is gone.
const LINGER: Duration = Duration::from_secs(1);
/// What it still sends meanwhile is thrown away, so much at most.
const LINGERING_BYTES: usize = 4 << 20;
/// A body that nobody wants is read to its end if that is near.
const UNWANTED_BYTES: usize = 256 << 10;

/// What becomes of the connection.
enum Next {
    Again,
    /// Nothing is left to say.
    Close,
    /// The client may be still sending; it must get to read the answer.
    Linger,
    /// The client must not take this for the end.
    Reset,
    /// It carries something else from now on.
    Switch(oneshot::Sender<Io>),
}

/// Why there is no head.
enum NoHead {
    Ended,
    Refused(Refused),
}

impl Http1 {
    /// Serves until the end.
    pub(crate) async fn serve<S: Service>(
        self,
        stream: TcpStream,
        service: S,
        drained: impl Future<Output = ()> + Unpin,
    ) {
        let link = Link { io: Io::Tcp(stream), inbox: Inbox::default(), body: None, waiting: None };
        let clock = Clock::new(Instant::now() + KEEP_ALIVE);
        let link = Rc::new(RefCell::new(link));
        Connection { http: self, service, link, clock, drained, draining: false }.run().await;
    }
}

struct Connection<S, D> {
    http: Http1,
    service: S,
    link: Rc<RefCell<Link>>,
    clock: Clock,
    drained: D,
    draining: bool,
}

impl<S: Service, D: Future<Output = ()> + Unpin> Connection<S, D> {
    async fn run(mut self) {
        loop {
            let next = match self.head().await {
                Ok(head) => self.exchange(head).await,
                Err(NoHead::Ended) => return,
                Err(NoHead::Refused(refused)) => self.refuse(refused).await,
            };
            match next {
                Next::Again => {}
                Next::Close => return,
                Next::Linger => return self.linger().await,
                Next::Reset => return self.link.borrow().io.reset(),
                Next::Switch(switch) => return self.hand_over(switch),
            }
        }
    }

    fn hand_over(self, switch: oneshot::Sender<Io>) {
        // No body of a request holds it: a request that switches has none.
        if let Ok(link) = Rc::try_unwrap(self.link) {
            let link = link.into_inner();
            // Who waited for it may have gone; then the connection ends here.
            let _ = switch.send(Io::begun(link.inbox.into_bytes(), link.io));
        }
    }

    /// Waits for the next head.
    async fn head(&mut self) -> Result<RequestHead, NoHead> {
        let mut scan = Scan::default();
        let mut due = Instant::now() + KEEP_ALIVE;
        let mut begun = false;
        loop {
            {
                let inbox = &mut self.link.borrow_mut().inbox;
                if inbox.is_empty() {
                    // Held by nobody who waits.
                    *inbox = Inbox::default();
                } else {
                    let taken = request::take(inbox, &mut scan, &self.http.limits);
                    if let Some(head) = taken.map_err(NoHead::Refused)? {
                        return Ok(head);
                    }
                    // An empty line, which old clients send behind a body, is no beginning.
                    let says = inbox.iter().any(|byte| !matches!(byte, b'\r' | b'\n'));
                    if !begun && says {
                        begun = true;
                        due = Instant::now() + self.http.header_read;
                    }
                }
            }
            self.clock.set(due);
            match poll_fn(|cx| self.poll_more(begun, cx)).await {
                More::Bytes => {}
                More::End => return Err(NoHead::Ended),
                More::Late if begun && !self.draining => return Err(NoHead::Refused(SLOW)),
                More::Late => return Err(NoHead::Ended),
                More::Draining if !begun => return Err(NoHead::Ended),
                More::Draining => due = due.min(Instant::now() + REST_OF_A_HEAD),
            }
        }
    }

    fn poll_more(&mut self, begun: bool, cx: &mut Context<'_>) -> Poll<More> {
        let mut link = self.link.borrow_mut();
        let link = &mut *link;
        // Ready before a buffer is made: an idle connection has none.
        if begun || link.io.poll_read_ready(cx).is_ready() {
            match link.inbox.poll_fill(&mut link.io, cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(More::End),
                Poll::Ready(Ok(_)) => return Poll::Ready(More::Bytes),
                Poll::Pending => {}
            }
        }
        if !self.draining && Pin::new(&mut self.drained).poll(cx).is_ready() {
            self.draining = true;
            return Poll::Ready(More::Draining);
        }
        self.clock.poll(cx).map(|()| More::Late)
    }

    /// One request and its response.
    async fn exchange(&mut self, head: RequestHead) -> Next {
        let asked = Asked {
            method: head.method.clone(),
            version: head.version,
            takes_trailers: head.takes_trailers,
            keep_alive: head.keep_alive,
        };
        let (body, switch) = match self.body(&head) {
            Ok(body) => body,
            Err(refused) => return self.refuse(refused).await,
        };
        // Boxed: it is large, and most connections wait for their next request most of the time.
        let response = Box::pin(self.service.clone().answer(into_request(head, body))).await;
        self.respond(&asked, response, switch).await
    }

    /// The request's body, and the other end of the switch that it may become.
    fn body(&mut self, head: &RequestHead) -> Result<(Incoming, Option<oneshot::Sender<Io>>), Refused> {
        if head.framing == Framing::None {
            let wants = head.method == Method::CONNECT || headers::upgrade_wanted(&head.headers).is_some();
            if !wants {
                return Ok((Incoming::Empty, None));
            }
            let (sender, receiver) = oneshot::channel();
            return Ok((Incoming::Switch(receiver), Some(sender)));
        }
        let decoder = Decoder::new(head.framing, self.http.limits);
        let mut link = self.link.borrow_mut();
        // What came with the head is looked at before anything is sent on.
        decoder.check(&link.inbox)?;
        link.body = Some(Reading::new(decoder, head.expects_continue, self.http.idle));
        Ok((Incoming::Http1(Received::new(self.link.clone())), None))
    }

    async fn respond(
        &mut self,
        asked: &Asked,
        response: Response<ResponseBody>,
        switch: Option<oneshot::Sender<Io>>,
    ) -> Next {
        let (head, body) = response.into_parts();
        let switches = head.status == StatusCode::SWITCHING_PROTOCOLS
            || (asked.method == Method::CONNECT && head.status.is_success());
        let (untold, broken) = match &mut self.link.borrow_mut().body {
            Some(reading) => (reading.answered(), reading.broken.is_some()),
            None => (false, false),
        };
        self.look_for_drain().await;
        let close = !asked.keep_alive || self.draining || untold || broken;
        let mut writing = Writing::new(asked, head.status, &head.headers, body, close, self.http.idle);
        drop(head);
        let written = poll_fn(|cx| writing.poll(&self.link, cx)).await;
        let until_close = writing.ends_with_connection();
        drop(writing);
        match (written, switch) {
            (Written::Whole, Some(switch)) if switches => Next::Switch(switch),
            (Written::Whole, _) => self.after(close || until_close, untold || broken, asked.keep_alive).await,
            (Written::Broken, _) if until_close => Next::Reset,
            (Written::Broken, _) => Next::Close,
            (Written::Lost(error), _) => {
                tracing::debug!(%error, "a response could not be written");
                Next::Close
            }
        }
    }

    /// What follows on a response that was written. `lost`: the rest of the request is not waited for.
    async fn after(&mut self, close: bool, lost: bool, client_would_go_on: bool) -> Next {
        let ended = !lost && self.body_ended(close).await;
        let body = self.link.borrow_mut().body.take();
        // One that broke before the answer is on record with it.
        if let (false, Some(Broken::Refused(refused))) = (lost, body.and_then(|reading| reading.broken)) {
            self.service.malformed(refused);
        }
        match (ended, close) {
            (true, false) => Next::Again,
            (true, true) if !client_would_go_on => Next::Close,
            _ => Next::Linger,
        }
    }

    /// Whether the body was read whole. Waits for who reads it, and reads over a short rest that nobody wants.
    async fn body_ended(&mut self, close: bool) -> bool {
        if self.link.borrow().body.as_ref().is_none_or(Reading::is_done) {
            return true;
        }
        let (start, mut skipped, mut unwanted) = (Instant::now(), 0usize, false);
        self.clock.set(start + self.http.idle);
        poll_fn(|cx| {
            loop {
                let mut link = self.link.borrow_mut();
                let Some(reading) = &link.body else { return Poll::Ready(true) };
                if reading.is_done() || reading.broken.is_some() {
                    return Poll::Ready(reading.is_done());
                }
                if !reading.dropped {
                    link.waiting = Some(cx.waker().clone());
                    return self.clock.poll(cx).map(|()| false);
                }
                if close || skipped > UNWANTED_BYTES {
                    return Poll::Ready(false);
                }
                if !std::mem::replace(&mut unwanted, true) {
                    self.clock.set(Instant::now() + LINGER);
                }
                match link.poll_body(cx) {
                    Poll::Ready(Some(Ok(frame))) => {
                        skipped = skipped.saturating_add(frame.data_ref().map_or(0, bytes::Bytes::len));
                    }
                    Poll::Ready(_) => {}
                    Poll::Pending => return self.clock.poll(cx).map(|()| false),
                }
            }
        })
        .await
    }

    async fn look_for_drain(&mut self) {
        if !self.draining {
            let drained = &mut self.drained;
            self.draining = poll_fn(|cx| Poll::Ready(Pin::new(&mut *drained).poll(cx).is_ready())).await;
        }
    }

    /// Says what is wrong.
    async fn refuse(&mut self, refused: Refused) -> Next {
        let asked = Asked {
            method: Method::GET,
            version: Version::HTTP_11,
            takes_trailers: false,
            keep_alive: false,
        };
        let (head, body) = self.service.refuse(refused).into_parts();
        let mut writing = Writing::new(&asked, head.status, &head.headers, body, true, self.http.idle);
        match poll_fn(|cx| writing.poll(&self.link, cx)).await {
            Written::Whole => Next::Linger,
            Written::Broken | Written::Lost(_) => Next::Close,
        }
    }

    /// Ends our side, and reads over what the client still sends: closing at once would reset the connection, and the
    /// client would lose the answer.
    async fn linger(self) {
        let read_over = poll_fn(|cx| {
            let mut link = self.link.borrow_mut();
            let link = &mut *link;
            ready!(Pin::new(&mut link.io).poll_shutdown(cx))?;
            let mut read = 0usize;
            loop {
                link.inbox.clear();
                match ready!(link.inbox.poll_fill(&mut link.io, cx))? {
                    0 => return Poll::Ready(Ok::<(), io::Error>(())),
                    more => read = read.saturating_add(more),
                }
                if read > LINGERING_BYTES {
                    return Poll::Ready(Ok(()));
                }
            }
        });
        // Whatever it ends with, the connection is closed.
        let _ = tokio::time::timeout(LINGER, read_over).await;
    }
}

/// What a waiting connection sees.
enum More {
    Bytes,
    End,
    Draining,
    Late,
}

const SLOW: Refused = Refused::new(Malformed::SlowHead, "the head did not come within timeouts.header_read");

fn into_request(head: RequestHead, body: Incoming) -> Request<Incoming> {
    let mut request = Request::new(body);
    *request.method_mut() = head.method;
    *request.uri_mut() = head.uri;
    *request.version_mut() = head.version;
    *request.headers_mut() = head.headers;
    request
}
