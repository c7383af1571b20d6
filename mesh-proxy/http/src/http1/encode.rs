//! Writes heads and chunks into one buffer.
//!
//! How a body is framed is written here and nowhere else: Content-Length and Transfer-Encoding of the fields are left
//! out, so that no message can say two things. Values are legal by their type.

use bytes::BytesMut;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{Method, StatusCode};

/// What a head says about the body behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announce {
    /// Nothing: there is none, or it ends with the connection.
    Nothing,
    /// The Content-Length of the fields, which describes a body that is not there: an answer to HEAD, or 304.
    AsTold,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// Writes the head of a request; `more` are fields beside `headers`.
pub fn request(
    out: &mut BytesMut,
    method: &Method,
    target: &str,
    headers: &HeaderMap,
    more: &[(HeaderName, &HeaderValue)],
    announce: Announce,
) {
    out.reserve(size(headers).saturating_add(target.len()).saturating_add(256));
    out.extend_from_slice(method.as_str().as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in more {
        field(out, name, value);
    }
    fields(out, headers, announce);
}

/// Writes the head of a response. `connection` is the value of that field, where it has one.
pub fn response(
    out: &mut BytesMut,
    status: StatusCode,
    headers: &HeaderMap,
    connection: Option<&'static str>,
    announce: Announce,
) {
    out.reserve(size(headers).saturating_add(128));
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    if let Some(connection) = connection {
        out.extend_from_slice(b"connection: ");
        out.extend_from_slice(connection.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    fields(out, headers, announce);
}

/// Writes what stands before a chunk's data. Behind the data comes CRLF.
pub fn chunk(out: &mut BytesMut, length: usize) {
    let mut digits = [0u8; 16];
    let mut rest = length;
    let mut used = 0;
    for place in digits.iter_mut().rev() {
        *place = b"0123456789abcdef".get(rest & 0xf).copied().unwrap_or(b'0');
        rest >>= 4;
        used += 1;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(16 - used..).unwrap_or_default());
    out.extend_from_slice(b"\r\n");
}

/// Writes the end of a chunked body.
pub fn last_chunk(out: &mut BytesMut, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        field(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
}

fn fields(out: &mut BytesMut, headers: &HeaderMap, announce: Announce) {
    for (name, value) in headers {
        let frames = *name == TRANSFER_ENCODING || (*name == CONTENT_LENGTH && announce != Announce::AsTold);
        if !frames {
            field(out, name, value);
        }
    }
    match announce {
        Announce::Nothing | Announce::AsTold => {}
        Announce::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            decimal(out, length);
            out.extend_from_slice(b"\r\n");
        }
        Announce::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    out.extend_from_slice(b"\r\n");
}

fn field(out: &mut BytesMut, name: &HeaderName, value: &HeaderValue) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn decimal(out: &mut BytesMut, mut number: u64) {
    let mut digits = [0u8; 20];
    let mut used = 0;
    for place in digits.iter_mut().rev() {
        *place = b'0'.saturating_add((number % 10) as u8);
        number /= 10;
        used += 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(20 - used..).unwrap_or_default());
}

/// About what the fields take.
fn size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}
