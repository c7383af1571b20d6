//! The chunked coding (RFC 9112 7.1), byte by byte around the data and at once within it.
//!
//! Sizes are digits and nothing else, every line ends in CRLF, extensions are read over within a bound. Nothing beyond
//! the last line of the trailers is touched.

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use crate::bytes::hex;
use crate::http1::{Limits, Scan, fields};
use crate::{Malformed, Refused};

/// Where in the coding the next byte stands.
#[derive(Debug, Clone)]
pub(super) struct Chunked {
    state: State,
    /// Bytes of extensions so far: nobody needs them, so many are an attack.
    extensions: usize,
}

#[derive(Debug, Clone)]
enum State {
    /// In a size, of which so many digits were read.
    Size {
        digits: u32,
        size: u64,
    },
    /// In an extension behind it.
    Extension {
        size: u64,
    },
    /// Before the LF of a size's line.
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    /// Before the CR behind a chunk's data.
    DataEnd,
    /// Before the LF behind it.
    DataLineFeed,
    Trailers(Scan),
    Done,
}

/// A piece of the body.
#[derive(Debug)]
pub(super) enum Piece {
    /// More bytes are needed.
    More,
    Data(Bytes),
    End(Option<HeaderMap>),
}

/// All extensions of one body together.
const MOST_EXTENSIONS: usize = 4 * 1024;
/// A size of sixteen digits is below 2^64.
const MOST_DIGITS: u32 = 16;

const BAD_SIZE: Refused = Refused::new(Malformed::Chunk, "a chunk's size is not a hexadecimal number");
const BAD_END: Refused = Refused::new(Malformed::Chunk, "a chunk does not end in CRLF where its size says");
const BAD_EXTENSION: Refused =
    Refused::new(Malformed::Chunk, "a chunk's extension is too long or has control characters");

impl Chunked {
    pub(super) fn new() -> Self {
        Self { state: State::Size { digits: 0, size: 0 }, extensions: 0 }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Takes the next piece off `buffer`.
    pub(super) fn decode(&mut self, buffer: &mut BytesMut, limits: &Limits) -> Result<Piece, Refused> {
        loop {
            match &mut self.state {
                State::Data { left } => {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                    if length == 0 {
                        return Ok(Piece::More);
                    }
                    *left = left.saturating_sub(length as u64);
                    if *left == 0 {
                        self.state = State::DataEnd;
                    }
                    return Ok(Piece::Data(buffer.split_to(length).freeze()));
                }
                State::Trailers(scan) => {
                    let Some(trailers) = trailers(buffer, scan, limits)? else { return Ok(Piece::More) };
                    self.state = State::Done;
                    return Ok(Piece::End((!trailers.is_empty()).then_some(trailers)));
                }
                State::Done => return Ok(Piece::End(None)),
                _ => {
                    let Some(byte) = buffer.first().copied() else { return Ok(Piece::More) };
                    buffer.advance(1);
                    self.step(byte)?;
                }
            }
        }
    }

    /// One byte outside of the data.
    fn step(&mut self, byte: u8) -> Result<(), Refused> {
        self.state = match (&self.state, byte) {
            (State::Size { digits, size }, b'\r') if *digits > 0 => State::SizeEnd { size: *size },
            (State::Size { digits, size }, b';') if *digits > 0 => State::Extension { size: *size },
            (State::Size { digits, size }, byte) if *digits < MOST_DIGITS => {
                let digit = hex(byte).ok_or(BAD_SIZE)?;
                State::Size { digits: digits.saturating_add(1), size: size << 4 | u64::from(digit) }
            }
            (State::Size { .. }, _) => return Err(BAD_SIZE),
            (State::Extension { size }, b'\r') => State::SizeEnd { size: *size },
            (State::Extension { size }, b'\t' | 0x20..=0x7e | 0x80..) => {
                self.extensions = self.extensions.saturating_add(1);
                if self.extensions > MOST_EXTENSIONS {
                    return Err(BAD_EXTENSION);
                }
                State::Extension { size: *size }
            }
            (State::Extension { .. }, _) => return Err(BAD_EXTENSION),
            (State::SizeEnd { size: 0 }, b'\n') => State::Trailers(Scan::of_trailers()),
            (State::SizeEnd { size }, b'\n') => State::Data { left: *size },
            (State::DataEnd, b'\r') => State::DataLineFeed,
            (State::DataLineFeed, b'\n') => State::Size { digits: 0, size: 0 },
            _ => return Err(BAD_END),
        };
        Ok(())
    }
}

fn trailers(buffer: &mut BytesMut, scan: &mut Scan, limits: &Limits) -> Result<Option<HeaderMap>, Refused> {
    let too_long = |refused: Refused| match refused.kind {
        Malformed::HeadSize => Refused::new(Malformed::Trailers, "the trailers are too long"),
        _ => refused,
    };
    let Some(range) = scan.find(buffer, limits.head).map_err(too_long)? else { return Ok(None) };
    let section = buffer.split_to(range.end).freeze();
    // What they say about framing is refused where it is wrong, and dropped by `trailers::purge` where it is not.
    let (trailers, _) = fields::parse(&section, 0, limits.fields).map_err(too_long)?;
    Ok(Some(trailers))
}
