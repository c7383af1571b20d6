//! Reads a body off the bytes behind its head, and not one byte beyond it.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use crate::Refused;
use crate::http1::chunked::{Chunked, Piece};
use crate::http1::{Framing, Limits};

/// A body that is being read.
#[derive(Debug, Clone)]
pub struct Decoder {
    state: State,
    limits: Limits,
}

#[derive(Debug, Clone)]
enum State {
    Length(u64),
    Chunked(Chunked),
    UntilClose,
    Done,
}

/// What came of the bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded {
    /// More bytes are needed.
    More,
    /// A part of the body; never empty.
    Data(Bytes),
    /// The body has ended.
    End(Option<HeaderMap>),
}

/// The connection ended within a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection ended within a message's body")]
pub struct Incomplete;

impl Decoder {
    /// For a body that ends where `framing` says.
    pub fn new(framing: Framing, limits: Limits) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(Chunked::new()),
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, limits }
    }

    /// Takes the next part off `buffer`.
    ///
    /// # Errors
    /// When a chunk or the trailers are malformed: nobody knows where the message ends.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, Refused> {
        match &mut self.state {
            State::Done => Ok(Decoded::End(None)),
            _ if buffer.is_empty() => Ok(Decoded::More),
            State::Length(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                *left = left.saturating_sub(length as u64);
                if *left == 0 {
                    self.state = State::Done;
                }
                Ok(Decoded::Data(buffer.split_to(length).freeze()))
            }
            State::UntilClose => Ok(Decoded::Data(buffer.split().freeze())),
            State::Chunked(chunked) => match chunked.decode(buffer, &self.limits)? {
                Piece::More => Ok(Decoded::More),
                Piece::Data(data) => Ok(Decoded::Data(data)),
                Piece::End(trailers) => {
                    self.state = State::Done;
                    Ok(Decoded::End(trailers))
                }
            },
        }
    }

    /// Reads what is in `buffer` without taking it: whether the part that is there is well-formed.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn check(&self, buffer: &[u8]) -> Result<(), Refused> {
        // Only chunks can be wrong, and only what has come can be looked at.
        let State::Chunked(_) = self.state else { return Ok(()) };
        let (mut ahead, mut buffer) = (self.clone(), BytesMut::from(buffer));
        loop {
            match ahead.decode(&mut buffer)? {
                Decoded::Data(_) => {}
                Decoded::More | Decoded::End(_) => return Ok(()),
            }
        }
    }

    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        match &self.state {
            State::Done => true,
            State::Chunked(chunked) => chunked.is_done(),
            State::Length(_) | State::UntilClose => false,
        }
    }

    /// The bytes that are still to come, where that is known.
    pub fn left(&self) -> Option<u64> {
        match self.state {
            State::Done => Some(0),
            State::Length(left) => Some(left),
            State::Chunked(_) | State::UntilClose => None,
        }
    }

    /// The connection ended: the end of a body that has no other, a broken message otherwise.
    ///
    /// # Errors
    /// When the body has not ended.
    pub fn close(&mut self) -> Result<(), Incomplete> {
        if let State::UntilClose = self.state {
            self.state = State::Done;
        }
        if self.is_done() { Ok(()) } else { Err(Incomplete) }
    }
}
