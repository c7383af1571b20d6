//! The head of a response.
//!
//! As strict as for requests: what an endpoint sends ambiguously would reach the caller as another message.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, Version};

use crate::http1::fields::{self, Noted};
use crate::http1::request::{keeps_alive, version};
use crate::http1::{Framing, Limits, Scan};
use crate::{Malformed, Refused};

/// What a response's head says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHead {
    /// The status.
    pub status: StatusCode,
    /// 1.0 or 1.1.
    pub version: Version,
    /// All fields.
    pub headers: HeaderMap,
    /// Where the body ends.
    pub framing: Framing,
    /// The server will take another request on the connection.
    pub keep_alive: bool,
}

impl ResponseHead {
    /// Whether another head follows for the same request. 101 is a last one.
    pub fn is_interim(&self) -> bool {
        self.status.is_informational() && self.status != StatusCode::SWITCHING_PROTOCOLS
    }
}

/// Takes a whole head off `buffer`; `method` is what was asked. `None`: it is not whole; what is there stays.
///
/// # Errors
/// When it is none that may be passed on.
pub fn take(
    buffer: &mut BytesMut,
    scan: &mut Scan,
    method: &Method,
    limits: &Limits,
) -> Result<Option<ResponseHead>, Refused> {
    let Some(range) = scan.find(buffer, limits.head)? else { return Ok(None) };
    let whole = buffer.split_to(range.end).freeze();
    *scan = Scan::default();
    parse(&whole.slice(range), method, limits).map(Some)
}

fn parse(head: &Bytes, method: &Method, limits: &Limits) -> Result<ResponseHead, Refused> {
    let end = memchr::memchr(b'\n', head).unwrap_or(head.len());
    let line = head.get(..end.saturating_sub(1)).unwrap_or_default();
    let (version, status) = status_line(line)?;
    let (headers, noted) = fields::parse(head, end.saturating_add(1), limits.fields)?;
    let framing = framing(method, version, status, &noted)?;
    let keep_alive = keeps_alive(version, &noted) && framing != Framing::UntilClose;
    Ok(ResponseHead { status, version, headers, framing, keep_alive })
}

fn status_line(line: &[u8]) -> Result<(Version, StatusCode), Refused> {
    let no_line = Refused::new(Malformed::StartLine, "the status line is not one");
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let (Some(first), Some(status)) = (parts.next(), parts.next()) else { return Err(no_line) };
    let version = version(first, no_line)?;
    let status = StatusCode::from_bytes(status).map_err(|_| no_line)?;
    // The space before an empty reason is left out by many.
    let reason = parts.next().unwrap_or_default();
    match reason.iter().all(|byte| matches!(byte, b'\t' | 0x20..=0x7e | 0x80..)) {
        true => Ok((version, status)),
        false => Err(no_line),
    }
}

fn framing(method: &Method, version: Version, status: StatusCode, noted: &Noted) -> Result<Framing, Refused> {
    let bodiless = *method == Method::HEAD
        || status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
        || (*method == Method::CONNECT && status.is_success());
    if noted.chunked && version == Version::HTTP_10 {
        return Err(Refused::new(Malformed::TransferEncoding, "HTTP/1.0 has no Transfer-Encoding"));
    }
    Ok(match (noted.chunked, noted.length) {
        _ if bodiless => Framing::None,
        (true, _) => Framing::Chunked,
        (false, Some(0)) => Framing::None,
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::UntilClose,
    })
}
