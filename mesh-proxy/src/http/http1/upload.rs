//! Writes one request to an endpoint: its head with the first part of its body, and then the rest as it comes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Method, Request};
use http_body::{Body, Frame};
use tokio::time::Instant;
use weft_http::http1::encode::{self, Announce};

use crate::http::body::{BodyError, RequestBody};
use crate::http::http1::clock::Clock;
use crate::http::http1::queue::Queue;
use crate::tcp::bytes::Bytes as Io;

/// A request that is being written.
#[derive(Debug)]
pub(super) struct Upload {
    body: RequestBody,
    /// What the head said of the length; `None`: chunks.
    left: Option<u64>,
    ended: bool,
    queue: Queue,
    /// The endpoint may have seen something of it.
    begun: bool,
    idle: Duration,
    pause: Option<Clock>,
}

/// Why it was not written whole.
#[derive(Debug)]
pub(super) enum NotWritten {
    /// The endpoint does not take it. It may have answered all the same.
    Io(io::Error),
    /// There is no more of it, or more than its head says.
    Body(Option<BodyError>),
}

impl Upload {
    /// Writes the head into the queue.
    pub(super) fn new(request: Request<RequestBody>, idle: Duration) -> Self {
        let (head, body) = request.into_parts();
        let announce = announce(&head.method, &head.headers, &body);
        let target = match head.uri.path_and_query() {
            Some(path) if head.method != Method::CONNECT => path.as_str(),
            _ => head.uri.authority().map_or("/", |authority| authority.as_str()),
        };
        let mut queue = Queue::default();
        encode::request(queue.head(), &head.method, target, &head.headers, &[], announce);
        let left = match announce {
            Announce::Chunked => None,
            Announce::Length(length) => Some(length),
            Announce::Nothing | Announce::AsTold => Some(0),
        };
        Self { body, left, ended: left == Some(0), queue, begun: false, idle, pause: None }
    }

    /// Whether the endpoint may have seen something of it.
    pub(super) fn begun(&self) -> bool {
        self.begun
    }

    /// Writes all of it.
    pub(super) fn poll(&mut self, io: &mut Io, cx: &mut Context<'_>) -> Poll<Result<(), NotWritten>> {
        loop {
            let waiting = self.poll_body(cx)?;
            let before = self.queue.len();
            let written = self.queue.poll_write(io, cx);
            self.begun |= self.queue.len() < before;
            match written {
                Poll::Ready(Ok(())) => self.pause = None,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(NotWritten::Io(error))),
                Poll::Pending => {
                    let idle = self.idle;
                    let pause = self.pause.get_or_insert_with(|| Clock::new(Instant::now() + idle));
                    let late = |()| Err(NotWritten::Io(io::ErrorKind::TimedOut.into()));
                    return pause.poll(cx).map(late);
                }
            }
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            if waiting {
                return Poll::Pending;
            }
        }
    }

    /// Moves what the body has into the queue. Whether it has no more at the moment.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Result<bool, NotWritten> {
        while !self.ended && self.queue.has_room() {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Ok(true),
                Poll::Ready(Some(Ok(frame))) => self.frame(frame)?,
                Poll::Ready(Some(Err(error))) => return Err(NotWritten::Body(Some(error))),
                Poll::Ready(None) => self.end(None)?,
            }
        }
        Ok(false)
    }

    fn frame(&mut self, frame: Frame<bytes::Bytes>) -> Result<(), NotWritten> {
        match frame.into_data() {
            Ok(data) => {
                if let Some(left) = &mut self.left {
                    *left = left.checked_sub(data.len() as u64).ok_or(NotWritten::Body(None))?;
                }
                self.queue.data(data, self.left.is_none());
                self.ended = self.left == Some(0);
                Ok(())
            }
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => self.end(Some(&trailers)),
                // There is no third kind.
                Err(_) => Ok(()),
            },
        }
    }

    fn end(&mut self, trailers: Option<&HeaderMap>) -> Result<(), NotWritten> {
        match self.left {
            Some(0) => {}
            Some(_) => return Err(NotWritten::Body(None)),
            None => self.queue.last_chunk(trailers),
        }
        self.ended = true;
        Ok(())
    }
}

fn announce(method: &Method, headers: &HeaderMap, body: &RequestBody) -> Announce {
    if !body.is_end_stream() {
        return body.size_hint().exact().map_or(Announce::Chunked, Announce::Length);
    }
    let expected = *method == Method::POST || *method == Method::PUT || *method == Method::PATCH;
    let told = headers.contains_key(http::header::CONTENT_LENGTH);
    if expected || told { Announce::Length(0) } else { Announce::Nothing }
}
