//! What a message that came over HTTP/2 must be before anything is decided on it or written as HTTP/1.
//!
//! The HTTP/2 implementation refuses most of RFC 9113 8 by itself (names in upper case, CR, LF and NUL, connection
//! headers, pseudo-headers out of place or twice, a content-length that the DATA does not have). Here is the rest: what it
//! lets through and an HTTP/1 application would read in another way than this proxy, or than its neighbour.

use http::header::{CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderValue};
use http::uri::Scheme;
use http::{Method, Uri};

use crate::bytes::is_token;
use crate::{Malformed, Refused, authority};

/// Checks a request's head. `protocol` is `:protocol` (RFC 8441).
///
/// # Errors
/// When it is not to be passed on.
pub fn request(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    protocol: Option<&str>,
) -> Result<(), Refused> {
    // The implementation hands over a scheme only beside an authority; other schemes are for gateways, which this is not.
    if uri.scheme().is_some_and(|scheme| *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS) {
        return Err(Refused::new(Malformed::Target, "the scheme is neither http nor https"));
    }
    named(uri, headers)?;
    if !has_form(method, uri) {
        return Err(Refused::new(Malformed::Target, ":path has a form that is none of its method's"));
    }
    // The implementation takes any text for it; it becomes the value of `Upgrade`.
    let token =
        |protocol: &str| !protocol.is_empty() && protocol.bytes().all(|byte| is_token(byte) || byte == b'/');
    if !protocol.is_none_or(token) {
        return Err(Refused::new(Malformed::Http2Message, ":protocol is no name of a protocol"));
    }
    fields(headers)
}

/// Checks a response's head.
///
/// # Errors
/// When it is not to be passed on.
pub fn response(headers: &HeaderMap) -> Result<(), Refused> {
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
fn named(uri: &Uri, headers: &HeaderMap) -> Result<(), Refused> {
    let bad = |detail| Err(Refused::new(Malformed::Host, detail));
    let mut hosts = headers.get_all(HOST).into_iter();
    let (host, further) = (hosts.next(), hosts.next());
    if further.is_some() {
        return bad("there are several Host fields");
    }
    let host = match host.map(|host| authority::parse(host.as_bytes())) {
        Some(None) => return bad("the Host field is not an authority"),
        Some(host) => host,
        None => None,
    };
    match (uri.authority(), host) {
        (None, None) => bad("there is neither :authority nor a Host field"),
        (Some(named), _) if !authority::well_formed(named) => bad(":authority is not host and port"),
        (Some(named), Some(host)) if !authority::same(named.as_str(), host.as_str(), uri.scheme()) => {
            bad("the Host field differs from :authority")
        }
        _ => Ok(()),
    }
}

fn has_form(method: &Method, uri: &Uri) -> bool {
    match uri.path_and_query().map(|path| path.as_str().as_bytes()) {
        None | Some([b'/', ..]) => true,
        Some([b'*']) => *method == Method::OPTIONS,
        // A CONNECT has no path; the type may show an empty one.
        Some(path) => path.is_empty() && *method == Method::CONNECT,
    }
}

fn fields(headers: &HeaderMap) -> Result<(), Refused> {
    // The same number twice is forgiven by the implementation, and not by every HTTP/1 application.
    if headers.get_all(CONTENT_LENGTH).into_iter().nth(1).is_some() {
        return Err(Refused::new(Malformed::ContentLength, "there are several Content-Length fields"));
    }
    // RFC 9113 8.2.1. HTTP/1 would lose it, so two readers would see two values.
    let padded = |value: &HeaderValue| {
        let bytes = value.as_bytes();
        matches!(bytes.first(), Some(b' ' | b'\t')) || matches!(bytes.last(), Some(b' ' | b'\t'))
    };
    if headers.values().any(padded) {
        return Err(Refused::new(Malformed::FieldValue, "a value begins or ends with a space"));
    }
    Ok(())
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
        request(&method, &uri.parse().unwrap(), &map(pairs), None).map_err(|refused| refused.kind)
    }

    #[test]
    fn what_an_http1_reader_would_read_otherwise_is_refused() {
        let bad = [
            ("ftp://api/", &[][..], Malformed::Target),
            ("http://user@api/", &[], Malformed::Host),
            ("http://api/", &[("host", "other")], Malformed::Host),
            ("http://api/", &[("host", "api:8080")], Malformed::Host),
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
            let seen = request(&Method::CONNECT, &uri, &map(&[]), Some(protocol));
            assert_eq!(seen.map_err(|refused| refused.kind), result, "{protocol:?}");
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
