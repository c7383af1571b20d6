//! One request in progress: the record that grows with it, and everything that is held until it ends.
//!
//! A call ends exactly once, when the response's body does, or when it is dropped before that because the client
//! left. It owns what the request occupies at the endpoint, so that ending it frees all of it.

use std::rc::Rc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use crate::http::body::BodyError;
use crate::http::exec;
use crate::http::failure::Failure;
use crate::http::headers;
use crate::http::replay::Replay;
use crate::pool::Lease;
use crate::record::{Record, RequestProtocol, ResponseFlag};
use crate::worker::Place;

/// Who is told of starts and ends: the telemetry, or a test.
pub(crate) trait Ledger {
    /// A request or connection started.
    fn started(&self);
    /// It ended.
    fn ended(&self, record: &Record);
    /// Whether what ends now is cut by this proxy, whose drain deadline is over.
    fn cuts(&self) -> bool;
}

/// A request (or TCP connection) in progress.
pub(crate) struct Call {
    ledger: Rc<dyn Ledger>,
    started: Instant,
    pub(crate) record: Record,
    body: Option<Replay>,
    lease: Option<Lease>,
    place: Option<Place>,
    ended: bool,
}

impl Call {
    /// Starts the clock.
    pub(crate) fn new(ledger: Rc<dyn Ledger>, record: Record) -> Box<Self> {
        ledger.started();
        Box::new(Self {
            ledger,
            started: Instant::now(),
            record,
            body: None,
            lease: None,
            place: None,
            ended: false,
        })
    }

    /// Whose bytes are the ones received.
    pub(crate) fn counts(&mut self, body: Replay) {
        self.body = Some(body);
    }

    /// Holds its place among the requests of this worker until the end.
    pub(crate) fn admitted(&mut self, place: Place) {
        self.place = Some(place);
    }

    /// Holds what the request occupies until the end.
    pub(crate) fn holds(&mut self, lease: Lease) {
        self.lease = Some(lease);
    }

    /// The response's head is on its way to the client.
    pub(crate) fn answered(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.record.status = status.as_u16();
        if self.record.protocol == RequestProtocol::Grpc {
            self.record.grpc_status = headers::grpc_status(headers);
        }
    }

    /// Bytes for the client.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.record.bytes_sent = self.record.bytes_sent.saturating_add(bytes as u64);
    }

    /// The response's trailers.
    pub(crate) fn trailers(&mut self, trailers: &HeaderMap) {
        if self.record.protocol == RequestProtocol::Grpc
            && let Some(status) = headers::grpc_status(trailers)
        {
            self.record.grpc_status = Some(status);
        }
    }

    /// What an opaque connection carried.
    pub(crate) fn carried(&mut self, up: u64, down: u64) {
        self.record.bytes_received = up;
        self.record.bytes_sent = down;
    }

    /// Ends with a failure after the response's head, when no other status can be given any more.
    pub(crate) fn ended_with(mut self: Box<Self>, flag: ResponseFlag, detail: String) {
        self.flag(flag, || detail);
        self.end();
    }

    /// Takes note of why the proxy answers instead of the endpoint.
    pub(crate) fn failed(&mut self, failure: &Failure) {
        self.record.flag = Some(failure.flag);
        self.record.detail.clone_from(&failure.detail);
    }

    /// The response was sent whole.
    pub(crate) fn complete(mut self: Box<Self>) {
        self.end();
    }

    /// The endpoint broke off in the middle of the response.
    pub(crate) fn broken(mut self: Box<Self>, error: &BodyError) {
        let flag = match error.refused() {
            Some(_) => ResponseFlag::UpstreamProtocolError,
            None => ResponseFlag::UpstreamConnectionTermination,
        };
        self.flag(flag, || format!("the response broke off: {}", chain(error)));
        self.end();
    }

    /// The client left before the end.
    pub(crate) fn abandoned(mut self: Box<Self>) {
        let stalled = exec::is_stalled();
        self.left(if stalled {
            "the client took nothing for timeouts.idle"
        } else {
            "the client left before the end"
        });
        self.end();
    }

    /// Nobody reads any more: the client left, or this proxy ends.
    fn left(&mut self, words: &str) {
        if self.ledger.cuts() {
            self.flag(ResponseFlag::Draining, || "cut at the drain deadline".to_owned());
        } else {
            self.flag(ResponseFlag::DownstreamConnectionTermination, || words.to_owned());
        }
    }

    fn flag(&mut self, flag: ResponseFlag, detail: impl FnOnce() -> String) {
        if self.record.flag.is_none() {
            self.record.flag = Some(flag);
            self.record.detail = detail();
        }
    }

    fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        if let Some(body) = &self.body {
            self.record.bytes_received = body.received();
        }
        self.record.duration = self.started.elapsed().max(Duration::from_nanos(1));
        self.lease = None;
        self.place = None;
        self.ledger.ended(&self.record);
    }
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("record", &self.record).finish_non_exhaustive()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.ended {
            // The handler was dropped: the client reset the stream or closed the connection.
            self.left("the client left before the response");
            self.end();
        }
    }
}

/// An error with its causes, each once, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}
