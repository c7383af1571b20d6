//! The fields of a head or of trailers, and what they say about framing and connection.
//!
//! Names and values become `http`'s types without a copy of the values: they share the head's bytes. The fields that
//! decide where the message ends are noted while they pass, so that none is looked up again.

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
};

use crate::{Malformed, Refused};

/// What the fields say beside themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) length: Option<u64>,
    /// There is a Transfer-Encoding, and it is `chunked`.
    pub(super) chunked: bool,
    pub(super) hosts: u32,
    /// `connection: close`.
    pub(super) close: bool,
    /// `connection: keep-alive`.
    pub(super) keep_alive: bool,
    pub(super) expects: u32,
    /// `te: trailers`.
    pub(super) trailers: bool,
    unknown_coding: bool,
}

/// Reads the lines from `at` to the empty line that ends `head`. Every line is known to end in CRLF.
pub(super) fn parse(head: &Bytes, at: usize, most: usize) -> Result<(HeaderMap, Noted), Refused> {
    let mut headers = HeaderMap::with_capacity(16);
    let mut noted = Noted::default();
    let mut start = at;
    let mut count = 0;
    loop {
        let rest = head.get(start..).unwrap_or_default();
        let Some(end) = memchr::memchr(b'\n', rest) else { break };
        let line = rest.get(..end.saturating_sub(1)).unwrap_or_default();
        if line.is_empty() {
            break;
        }
        count += 1;
        if count > most {
            return Err(Refused::new(Malformed::HeadSize, "the message has too many fields"));
        }
        let (name, value) = field(head, line)?;
        noted.note(&name, &value)?;
        let full = |_| Refused::new(Malformed::HeadSize, "the message has too many fields");
        headers.try_append(name, value).map_err(full)?;
        start = start.saturating_add(end).saturating_add(1);
    }
    noted.settle()?;
    Ok((headers, noted))
}

fn field(head: &Bytes, line: &[u8]) -> Result<(HeaderName, HeaderValue), Refused> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        // RFC 9112 5.2: a server must refuse it or replace it; one before the first field is worse (2.2).
        return Err(Refused::new(Malformed::Folding, "a line of the head begins with a space"));
    }
    let no_name = Refused::new(Malformed::FieldName, "a field's name is not a token");
    let colon = memchr::memchr(b':', line).ok_or(no_name)?;
    let (name, value) = line.split_at_checked(colon).ok_or(no_name)?;
    let name = HeaderName::from_bytes(name).map_err(|_| no_name)?;
    let value = trimmed(value.get(1..).unwrap_or_default());
    let value = HeaderValue::from_maybe_shared(head.slice_ref(value)).map_err(|_| bad_value(value))?;
    Ok((name, value))
}

/// Without the optional white space around it (RFC 9110 5.5).
fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn bad_value(value: &[u8]) -> Refused {
    if memchr::memchr(b'\r', value).is_some() {
        return Refused::new(Malformed::LineEnd, "a CR stands without LF");
    }
    Refused::new(Malformed::FieldValue, "a field's value has control characters")
}

impl Noted {
    fn note(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), Refused> {
        if *name == CONTENT_LENGTH {
            let several = Refused::new(Malformed::ContentLength, "there are several Content-Length");
            let none = Refused::new(Malformed::ContentLength, "the Content-Length is not a number");
            if self.length.is_some() {
                return Err(several);
            }
            self.length = Some(length(value.as_bytes()).ok_or(none)?);
        } else if *name == TRANSFER_ENCODING {
            self.encodings(value.as_bytes())?;
        } else if *name == HOST {
            self.hosts += 1;
        } else if *name == CONNECTION {
            for token in tokens(value.as_bytes()) {
                self.close |= token.eq_ignore_ascii_case(b"close");
                self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if *name == EXPECT {
            self.expects += 1;
        } else if *name == TE {
            self.trailers |= tokens(value.as_bytes()).any(|token| token.eq_ignore_ascii_case(b"trailers"));
        }
        Ok(())
    }

    /// One or more codings, of which `chunked` must be the one and last.
    fn encodings(&mut self, value: &[u8]) -> Result<(), Refused> {
        let wrong =
            Refused::new(Malformed::TransferEncoding, "chunked is not the one and last transfer coding");
        for coding in value.split(|byte| *byte == b',').map(trimmed) {
            if self.chunked || coding.is_empty() {
                return Err(wrong);
            }
            if coding.eq_ignore_ascii_case(b"chunked") {
                self.chunked = true;
            } else if coding.iter().all(|byte| crate::bytes::is_token(*byte)) {
                self.unknown_coding = true;
            } else {
                return Err(wrong);
            }
        }
        Ok(())
    }

    fn settle(&self) -> Result<(), Refused> {
        if (self.chunked || self.unknown_coding) && self.length.is_some() {
            let words = "Content-Length and Transfer-Encoding stand side by side";
            return Err(Refused::new(Malformed::LengthAndEncoding, words));
        }
        if self.unknown_coding {
            return Err(Refused::new(Malformed::UnknownEncoding, "the transfer coding is not known"));
        }
        Ok(())
    }
}

/// A decimal number and nothing else: no sign, no list.
fn length(value: &[u8]) -> Option<u64> {
    // Nineteen digits are below 2^64.
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = value.iter().fold(0u64, |sum, digit| {
        sum.saturating_mul(10).saturating_add(u64::from(digit.saturating_sub(b'0')))
    });
    // Many count in signed numbers.
    (number <= i64::MAX as u64).then_some(number)
}

fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trimmed)
}
