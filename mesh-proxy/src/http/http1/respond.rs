//! Writes one response to a client: its head with the first part of its body, and then the rest as it comes.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{CONTENT_LENGTH, HeaderMap};
use http::{Method, StatusCode, Version};
use http_body::{Body, Frame};
use tokio::time::Instant;
use weft_http::http1::encode::{self, Announce};

use crate::http::body::ResponseBody;
use crate::http::http1::clock::Clock;
use crate::http::http1::link::Link;
use crate::http::http1::queue::Queue;

/// What of the request decides on the form of its response.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) takes_trailers: bool,
    /// The client would send another request.
    pub(super) keep_alive: bool,
}

/// How the end of a response's body is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// There is no body.
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

/// How the writing ended.
#[derive(Debug)]
pub(super) enum Written {
    Whole,
    /// The body broke off, or did not keep to its length.
    Broken,
    /// The client is gone, or reads nothing.
    Lost(io::Error),
}

/// A response that is being written.
#[derive(Debug)]
pub(super) struct Writing {
    body: ResponseBody,
    form: Form,
    takes_trailers: bool,
    ended: bool,
    broken: bool,
    queue: Queue,
    idle: Duration,
    pause: Option<Clock>,
}

impl Writing {
    /// Writes the head into the queue. `close`: the connection ends with it.
    pub(super) fn new(
        asked: &Asked,
        status: StatusCode,
        headers: &HeaderMap,
        body: ResponseBody,
        close: bool,
        idle: Duration,
    ) -> Self {
        let (form, announce) = form(asked, status, headers, &body);
        let connection = match (close || form == Form::UntilClose, asked.version) {
            _ if status == StatusCode::SWITCHING_PROTOCOLS => None,
            (true, _) => Some("close"),
            (false, Version::HTTP_10) => Some("keep-alive"),
            (false, _) => None,
        };
        let mut queue = Queue::default();
        encode::response(queue.head(), status, headers, connection, announce);
        let ended = matches!(form, Form::None | Form::Length(0));
        Self {
            body,
            form,
            takes_trailers: asked.takes_trailers,
            ended,
            broken: false,
            queue,
            idle,
            pause: None,
        }
    }

    /// Whether the end of the connection is the end of the body.
    pub(super) fn ends_with_connection(&self) -> bool {
        self.form == Form::UntilClose
    }

    /// Writes all of it.
    pub(super) fn poll(&mut self, link: &RefCell<Link>, cx: &mut Context<'_>) -> Poll<Written> {
        loop {
            let waiting = self.poll_body(cx).unwrap_or_else(|Broken| {
                // What came before it still goes out.
                (self.broken, self.ended) = (true, true);
                false
            });
            // Borrowed only here: the response's body may read the request's, which is behind the same cell.
            match self.queue.poll_write(&mut link.borrow_mut().io, cx) {
                Poll::Ready(Ok(())) => self.pause = None,
                Poll::Ready(Err(error)) => return Poll::Ready(Written::Lost(error)),
                Poll::Pending => {
                    let idle = self.idle;
                    let pause = self.pause.get_or_insert_with(|| Clock::new(Instant::now() + idle));
                    return pause.poll(cx).map(|()| Written::Lost(io::ErrorKind::TimedOut.into()));
                }
            }
            if self.ended {
                return Poll::Ready(if self.broken { Written::Broken } else { Written::Whole });
            }
            if waiting {
                return Poll::Pending;
            }
        }
    }

    /// Moves what the body has into the queue. Whether the body has no more at the moment.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Result<bool, Broken> {
        while !self.ended && self.queue.has_room() {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Ok(true),
                Poll::Ready(Some(Ok(frame))) => self.frame(frame)?,
                Poll::Ready(Some(Err(_))) => return Err(Broken),
                Poll::Ready(None) => self.end(None)?,
            }
        }
        Ok(false)
    }

    fn frame(&mut self, frame: Frame<bytes::Bytes>) -> Result<(), Broken> {
        match frame.into_data() {
            Ok(data) => {
                if let Form::Length(left) = &mut self.form {
                    *left = left.checked_sub(data.len() as u64).ok_or(Broken)?;
                }
                self.queue.data(data, self.form == Form::Chunked);
                if self.form == Form::Length(0) {
                    self.ended = true;
                }
                Ok(())
            }
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => self.end(Some(&trailers)),
                // There is no third kind.
                Err(_) => Ok(()),
            },
        }
    }

    fn end(&mut self, trailers: Option<&HeaderMap>) -> Result<(), Broken> {
        match self.form {
            Form::Length(left) if left > 0 => return Err(Broken),
            Form::Chunked => self.queue.last_chunk(trailers.filter(|_| self.takes_trailers)),
            Form::None | Form::Length(_) | Form::UntilClose => {}
        }
        self.ended = true;
        Ok(())
    }
}

/// The body is not what its head says.
struct Broken;

fn form(asked: &Asked, status: StatusCode, headers: &HeaderMap, body: &ResponseBody) -> (Form, Announce) {
    let switched = asked.method == Method::CONNECT && status.is_success();
    if switched || status.is_informational() || status == StatusCode::NO_CONTENT {
        return (Form::None, Announce::Nothing);
    }
    let described = headers.contains_key(CONTENT_LENGTH);
    if status == StatusCode::NOT_MODIFIED || (asked.method == Method::HEAD && described) {
        return (Form::None, Announce::AsTold);
    }
    let length = body.size_hint().exact();
    if asked.method == Method::HEAD {
        // An endpoint that told nothing of the length leaves it open; a text of ours has one.
        let length = length.filter(|length| *length > 0);
        return (Form::None, length.map_or(Announce::Nothing, Announce::Length));
    }
    match length {
        Some(length) => (Form::Length(length), Announce::Length(length)),
        None if asked.version == Version::HTTP_11 => (Form::Chunked, Announce::Chunked),
        None => (Form::UntilClose, Announce::Nothing),
    }
}
