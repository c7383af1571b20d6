//! A request body that can be sent again: what was read so far is kept, up to a bound.
//!
//! A refused stream has often been sent its first bytes. Small bodies, and the start of streams, can so move to another
//! endpoint. Beyond the bound the request can't be repeated and the memory is given back. At most one attempt reads at a
//! time: an older one that is polled again gets an error.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use weft_http::Refused;

use crate::http::body::BodyError;
use crate::http::incoming::Incoming;

/// Most request messages are smaller; a slow endpoint with many requests holds no more than this for each.
const KEPT_BYTES: usize = 64 * 1024;

/// The source of one request's body and what was read of it.
#[derive(Debug)]
pub(crate) struct Replay(Rc<RefCell<State>>);

/// One attempt's view of it.
#[derive(Debug)]
pub(crate) struct ReplayBody {
    state: Rc<RefCell<State>>,
    attempt: u32,
}

/// Why a body broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The client left.
    Left,
    /// What it sent was malformed.
    Refused(Refused),
}

#[derive(Debug)]
struct State {
    source: Incoming,
    attempt: u32,
    /// How much of `kept` the current attempt has read.
    position: usize,
    kept: Vec<Bytes>,
    kept_bytes: usize,
    trailers: Option<HeaderMap>,
    /// The current attempt has yet to read `trailers`.
    repeat_trailers: bool,
    ended: bool,
    /// More was read than is kept.
    lost: bool,
    broken: Option<Broken>,
    received: u64,
}

impl Replay {
    /// Wraps a body of which nothing was read.
    pub(crate) fn new(source: Incoming) -> Self {
        Self(Rc::new(RefCell::new(State {
            source,
            attempt: 0,
            position: 0,
            kept: Vec::new(),
            kept_bytes: 0,
            trailers: None,
            repeat_trailers: false,
            ended: false,
            lost: false,
            broken: None,
            received: 0,
        })))
    }

    /// A body for the next attempt, from the start. `None`: it can't be repeated any more.
    pub(crate) fn attempt(&self) -> Option<ReplayBody> {
        let mut state = self.0.borrow_mut();
        if state.lost || state.broken.is_some() {
            return None;
        }
        state.attempt = state.attempt.wrapping_add(1);
        state.position = 0;
        state.repeat_trailers = state.trailers.is_some();
        Some(ReplayBody { state: self.0.clone(), attempt: state.attempt })
    }

    /// Another handle, to count what was received.
    pub(crate) fn share(&self) -> Self {
        Self(self.0.clone())
    }

    /// Bytes that the client sent.
    pub(crate) fn received(&self) -> u64 {
        self.0.borrow().received
    }

    /// Why the client's part broke off in the middle, if it did.
    pub(crate) fn broken(&self) -> Option<Broken> {
        self.0.borrow().broken
    }

    /// There will be no further attempt: nothing is kept from now on, and what was read is freed.
    pub(crate) fn settle(&self) {
        let mut state = self.0.borrow_mut();
        state.lost = true;
        state.forget();
    }
}

impl State {
    fn keep(&mut self, data: &Bytes) {
        self.received = self.received.saturating_add(data.len() as u64);
        if self.lost {
            return;
        }
        self.kept_bytes = self.kept_bytes.saturating_add(data.len());
        if self.kept_bytes > KEPT_BYTES {
            self.lost = true;
            self.forget();
        } else {
            self.kept.push(data.clone());
            self.position = self.kept.len();
        }
    }

    /// Frees what is kept if nobody will read it again.
    fn forget(&mut self) {
        if self.lost && self.position >= self.kept.len() {
            self.kept = Vec::new();
            self.position = 0;
        }
    }
}

impl Body for ReplayBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut state = self.state.borrow_mut();
        if state.attempt != self.attempt {
            return Poll::Ready(Some(Err(BodyError::Superseded)));
        }
        if let Some(data) = state.kept.get(state.position).cloned() {
            state.position += 1;
            state.forget();
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if state.ended {
            let trailers = if state.repeat_trailers { state.trailers.clone() } else { None };
            state.repeat_trailers = false;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let frame = match std::task::ready!(Pin::new(&mut state.source).poll_frame(cx)) {
            None => {
                state.ended = true;
                return Poll::Ready(None);
            }
            Some(Err(error)) => {
                state.broken = Some(error.refused().map_or(Broken::Left, Broken::Refused));
                return Poll::Ready(Some(Err(error)));
            }
            Some(Ok(frame)) => frame,
        };
        if let Some(data) = frame.data_ref() {
            state.keep(data);
        } else if let Some(trailers) = frame.trailers_ref() {
            // Trailers end a body. Kept only as long as it may be repeated.
            state.ended = true;
            state.trailers = (!state.lost).then(|| trailers.clone());
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        let state = self.state.borrow();
        let read_all = state.position >= state.kept.len();
        read_all && !state.repeat_trailers && (state.ended || state.source.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let state = self.state.borrow();
        let ahead: u64 = state.kept.iter().skip(state.position).map(|data| data.len() as u64).sum();
        let rest = state.source.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(ahead));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(ahead).max(hint.lower()));
        }
        hint
    }
}
