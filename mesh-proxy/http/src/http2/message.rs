//! What a message that came over HTTP/2 must be before anything is decided on it or written as HTTP/1.
//!
//! The HTTP/2 implementation refuses most of RFC 9113 8 by itself (names in upper case, CR, LF and NUL, connection
//! headers, pseudo-headers out of place or twice, a content-length that the DATA does not have). Here is the rest: what it
//! lets through and an HTTP/1 application would read in another way than this proxy, or than its neighbour.

use http::header::{CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderValue};
use http::uri::{Authority, Scheme};
use http::{Method, Uri};

use crate::Malformed;

/// Checks a request's head. `protocol` is `:protocol` (RFC 8441).
///
/// # Errors
/// With the kind of what is wrong.
pub fn request(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    protocol: Option<&str>,
) -> Result<(), Malformed> {
    // The implementation hands over a scheme only beside an authority; other schemes are for gateways, which this is not.
    if uri.scheme().is_some_and(|scheme| *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS) {
        return Err(Malformed::Target);
    }
    authority(uri, headers)?;
    target(method, uri)?;
    // The implementation takes any text for it; it becomes the value of `Upgrade`.
    if protocol.is_some_and(|protocol| protocol.is_empty() || !protocol.bytes().all(is_token)) {
        return Err(Malformed::Http2Message);
    }
    fields(headers)
}

/// Checks a response's head.
///
/// # Errors
/// With the kind of what is wrong.
pub fn response(headers: &HeaderMap) -> Result<(), Malformed> {
    fields(headers)
}

/// Joins a cookie that came in crumbs: HTTP/1 has one line for it (RFC 9113 8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).into_iter();
    if let (Some(_), Some(_)) = (crumbs.next(), crumbs.next()) {
        let all: Vec<&[u8]> = headers.get_all(COOKIE).into_iter().map(HeaderValue::as_bytes).collect();
        // Legal values with a separator between them are a legal value.
        if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
            headers.insert(COOKIE, joined);
        }
    }
}

/// `:authority` is what counts; a `Host` beside it must say the same (RFC 9113 8.3.1).
fn authority(uri: &Uri, headers: &HeaderMap) -> Result<(), Malformed> {
    let mut hosts = headers.get_all(HOST).into_iter();
    let (host, further) = (hosts.next(), hosts.next());
    if further.is_some() {
        return Err(Malformed::Host);
    }
    let named = uri.authority();
    // "user:password@": for people, and a way to make a name look like another (RFC 9113 8.3.1 forbids it).
    if named.is_some_and(|named| named.as_str().contains('@')) {
        return Err(Malformed::Host);
    }
    match (named, host) {
        (Some(named), Some(host)) if !is_same(named, host) => Err(Malformed::Host),
        (None, None) => Err(Malformed::Host),
        _ => Ok(()),
    }
}

fn is_same(named: &Authority, host: &HeaderValue) -> bool {
    named.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes())
}

fn target(method: &Method, uri: &Uri) -> Result<(), Malformed> {
    let Some(path) = uri.path_and_query().map(http::uri::PathAndQuery::as_str) else { return Ok(()) };
    match path.as_bytes().first() {
        Some(b'/') => Ok(()),
        Some(b'*') if path == "*" && *method == Method::OPTIONS => Ok(()),
        // A CONNECT has no path; the type shows an empty one.
        None if *method == Method::CONNECT => Ok(()),
        _ => Err(Malformed::Target),
    }
}

fn fields(headers: &HeaderMap) -> Result<(), Malformed> {
    // The same number twice is forgiven by the implementation, and not by every HTTP/1 application.
    if headers.get_all(CONTENT_LENGTH).into_iter().nth(1).is_some() {
        return Err(Malformed::ContentLength);
    }
    // RFC 9113 8.2.1. HTTP/1 would lose it, so two readers would see two values.
    let padded = |value: &HeaderValue| {
        let bytes = value.as_bytes();
        matches!(bytes.first(), Some(b' ' | b'\t')) || matches!(bytes.last(), Some(b' ' | b'\t'))
    };
    if headers.values().any(padded) {
        return Err(Malformed::FieldValue);
    }
    Ok(())
}

/// RFC 9110 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    fn of(method: Method, uri: &str, pairs: &[(&'static str, &'static str)]) -> Result<(), Malformed> {
        request(&method, &uri.parse().unwrap(), &map(pairs), None)
    }

    #[test]
    fn what_an_http1_reader_would_read_otherwise_is_refused() {
        let bad = [
            ("ftp://api/", &[][..], Malformed::Target),
            ("http://user@api/", &[], Malformed::Host),
            ("http://api/", &[("host", "other")], Malformed::Host),
            ("http://api/", &[("host", "api:80")], Malformed::Host),
            ("http://api/", &[("host", "api"), ("host", "api")], Malformed::Host),
            ("/", &[], Malformed::Host),
            ("*", &[("host", "api")], Malformed::Target),
            ("http://api/", &[("content-length", "3"), ("content-length", "3")], Malformed::ContentLength),
            ("http://api/", &[("a", " x")], Malformed::FieldValue),
            ("http://api/", &[("a", "x\t")], Malformed::FieldValue),
        ];
        for (uri, headers, kind) in bad {
            assert_eq!(of(Method::GET, uri, headers), Err(kind), "{uri} {headers:?}");
        }
    }

    #[test]
    fn ordinary_requests_pass() {
        for (uri, headers) in [
            ("http://api/a?b=c", &[][..]),
            ("https://api:443/", &[("host", "API:443")]),
            ("/", &[("host", "api")]),
            ("http://api/", &[("a", ""), ("b", "x y"), ("content-length", "3")]),
        ] {
            assert_eq!(of(Method::GET, uri, headers), Ok(()), "{uri} {headers:?}");
        }
        assert_eq!(of(Method::OPTIONS, "*", &[("host", "api")]), Ok(()));
        assert_eq!(of(Method::CONNECT, "api:80", &[]), Ok(()));
    }

    #[test]
    fn a_protocol_to_switch_to_is_a_token() {
        for (protocol, result) in [
            ("websocket", Ok(())),
            ("connect-udp", Ok(())),
            ("", Err(Malformed::Http2Message)),
            ("a\r\nx: y", Err(Malformed::Http2Message)),
            ("a, b", Err(Malformed::Http2Message)),
        ] {
            let uri = "http://api/".parse().unwrap();
            assert_eq!(request(&Method::CONNECT, &uri, &map(&[]), Some(protocol)), result, "{protocol:?}");
        }
    }

    #[test]
    fn crumbs_of_a_cookie_become_one_line() {
        let mut headers = map(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3; d=4")]);
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(COOKIE).into_iter().collect::<Vec<_>>(), ["a=1; b=2; c=3; d=4"]);
        assert_eq!(headers.len(), 2);
    }
}
