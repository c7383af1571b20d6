//! The head of a request.

use bytes::{Bytes, BytesMut};
use http::header::{EXPECT, HOST};
use http::{HeaderMap, Method, Uri, Version};

use crate::bytes::is_token;
use crate::http1::fields::{self, Noted};
use crate::http1::{Framing, Limits, METHOD, Scan, target};
use crate::{Malformed, Refused, authority};

/// What a request's head says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The target, in the form it had.
    pub uri: Uri,
    /// 1.0 or 1.1.
    pub version: Version,
    /// All fields.
    pub headers: HeaderMap,
    /// Where the body ends.
    pub framing: Framing,
    /// The client wants to go on with the connection.
    pub keep_alive: bool,
    /// The client waits for a 100 before it sends the body.
    pub expects_continue: bool,
    /// The client reads trailers (`te: trailers`).
    pub takes_trailers: bool,
}

/// Takes a whole head off `buffer`. `None`: it is not whole; what is there stays.
///
/// # Errors
/// When it is none that may be passed on. The buffer is of no use then: nobody knows where the next message starts.
pub fn take(buffer: &mut BytesMut, scan: &mut Scan, limits: &Limits) -> Result<Option<RequestHead>, Refused> {
    let found = match scan.find(buffer, limits.head) {
        Ok(found) => found,
        Err(refused) if refused.kind == Malformed::HeadSize && !scan.begun() => {
            return Err(long_line(buffer));
        }
        Err(refused) => return Err(refused),
    };
    let Some(range) = found else { return Ok(None) };
    let whole = buffer.split_to(range.end).freeze();
    *scan = Scan::default();
    parse(&whole.slice(range), limits).map(Some)
}

/// The first line alone is too long: by its method or by its target.
fn long_line(line: &[u8]) -> Refused {
    match line.iter().take(METHOD.saturating_add(2)).any(|byte| *byte == b' ') {
        true => Refused::new(Malformed::TargetSize, "the request target is too long"),
        false => Refused::new(Malformed::Method, "the method is too long"),
    }
}

/// Reads a head that ends in its empty line and in which every line ends in CRLF.
fn parse(head: &Bytes, limits: &Limits) -> Result<RequestHead, Refused> {
    let end = memchr::memchr(b'\n', head).unwrap_or(head.len());
    let line = head.get(..end.saturating_sub(1)).unwrap_or_default();
    let (method, target, version) = request_line(line, limits)?;
    let uri = target::parse(head, target, &method)?;
    let (mut headers, noted) = fields::parse(head, end.saturating_add(1), limits.fields)?;
    check_host(&uri, version, &headers, &noted)?;
    let framing = framing(&method, version, &noted)?;
    if framing == Framing::None && method == Method::CONNECT {
        headers.remove(http::header::CONTENT_LENGTH);
    }
    if version == Version::HTTP_10 {
        // It has no meaning there, and is sent on as HTTP/1.1, where it has (RFC 9110 10.1.1).
        headers.remove(EXPECT);
    }
    let expects_continue = expects_continue(version, &headers, &noted)?;
    Ok(RequestHead {
        method,
        uri,
        version,
        headers,
        framing,
        keep_alive: keeps_alive(version, &noted),
        expects_continue,
        takes_trailers: noted.trailers,
    })
}

pub(super) fn keeps_alive(version: Version, noted: &Noted) -> bool {
    !noted.close && (version == Version::HTTP_11 || noted.keep_alive)
}

fn request_line<'a>(line: &'a [u8], limits: &Limits) -> Result<(Method, &'a [u8], Version), Refused> {
    let no_line = Refused::new(Malformed::StartLine, "the request line is not one");
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let (Some(method), Some(target), Some(version)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(no_line);
    };
    if !method.iter().all(|byte| is_token(*byte)) || method.is_empty() || target.is_empty() {
        return Err(no_line);
    }
    if method.len() > METHOD {
        return Err(Refused::new(Malformed::Method, "the method is too long"));
    }
    if target.len() > limits.target {
        return Err(Refused::new(Malformed::TargetSize, "the request target is too long"));
    }
    let version = self::version(version, no_line)?;
    let method = Method::from_bytes(method).map_err(|_| no_line)?;
    Ok((method, target, version))
}

/// Both versions of HTTP/1; `otherwise` is for what is no version at all.
pub(super) fn version(text: &[u8], otherwise: Refused) -> Result<Version, Refused> {
    match text {
        b"HTTP/1.1" => Ok(Version::HTTP_11),
        b"HTTP/1.0" => Ok(Version::HTTP_10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(Refused::new(Malformed::Version, "the version is neither HTTP/1.0 nor HTTP/1.1"))
        }
        _ => Err(otherwise),
    }
}

fn framing(method: &Method, version: Version, noted: &Noted) -> Result<Framing, Refused> {
    let framing = match (noted.chunked, noted.length) {
        (true, _) if version == Version::HTTP_10 => {
            let words = "HTTP/1.0 has no Transfer-Encoding";
            return Err(Refused::new(Malformed::TransferEncoding, words));
        }
        (true, _) => Framing::Chunked,
        (false, Some(0) | None) => Framing::None,
        (false, Some(length)) => Framing::Length(length),
    };
    let bare = *method == Method::TRACE || *method == Method::CONNECT;
    if bare && framing != Framing::None {
        return Err(Refused::new(Malformed::Body, "a TRACE or CONNECT has a body"));
    }
    Ok(framing)
}

/// RFC 9112 3.2: one Host, and an authority. One that differs from the target's is refused, although the RFC lets the
/// target win: who reads only one of them would go elsewhere.
fn check_host(uri: &Uri, version: Version, headers: &HeaderMap, noted: &Noted) -> Result<(), Refused> {
    let refuse = |words| Err(Refused::new(Malformed::Host, words));
    let host = match (noted.hosts, headers.get(HOST)) {
        (0, _) | (_, None) if version == Version::HTTP_10 => return Ok(()),
        (0, _) | (_, None) => return refuse("the request has no Host header"),
        (1, Some(host)) => host.as_bytes(),
        (_, Some(_)) => return refuse("the request has several Host headers"),
    };
    let Some(named) = uri.authority() else {
        // An empty one is legal where the target has no authority.
        return match host.is_empty() || authority::parse(host).is_some() {
            true => Ok(()),
            false => refuse("the Host header is not an authority"),
        };
    };
    let Some(host) = authority::parse(host) else { return refuse("the Host header is not an authority") };
    let connects_to =
        uri.scheme().is_none() && authority::split(named.as_str()).0.eq_ignore_ascii_case(host.as_str());
    if connects_to || authority::same(named.as_str(), host.as_str(), uri.scheme()) {
        return Ok(());
    }
    refuse("the Host header differs from the request target")
}

fn expects_continue(version: Version, headers: &HeaderMap, noted: &Noted) -> Result<bool, Refused> {
    if noted.expects == 0 || version == Version::HTTP_10 {
        return Ok(false);
    }
    let one = headers.get(EXPECT).filter(|_| noted.expects == 1);
    match one.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        true => Ok(true),
        false => Err(Refused::new(Malformed::Expectation, "the expectation is not 100-continue")),
    }
}
