//! Header hygiene: what a proxy must remove, and the few headers it adds.
//!
//! Headers are edited in place, so that the map's allocation is kept. Everything else, the path and the authority
//! included, passes untouched. What may be trusted is decided elsewhere: only the TLS peer's identity.

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, Response, Uri, Version};
use weft_http::http2::message;

use crate::http::failure::Failure;

/// The registered port of the workload that the caller wants.
pub(crate) const WEFT_PORT: HeaderName = HeaderName::from_static("weft-port");
/// What the caller's application spoke: `h1` or `h2`.
pub(crate) const WEFT_PROTO: HeaderName = HeaderName::from_static("weft-proto");
/// On a failure of the callee's proxy: the application has seen nothing of the request.
pub(crate) const WEFT_UNSENT: HeaderName = HeaderName::from_static("weft-unsent");
/// On the answer to an upgrade that the application declined with a 2xx: the status it gave.
pub(crate) const WEFT_STATUS: HeaderName = HeaderName::from_static("weft-status");
/// The method of an upgrade request, where it was not GET.
pub(crate) const WEFT_METHOD: HeaderName = HeaderName::from_static("weft-method");
/// How many proxies of ours a request has passed that left the mesh in plaintext. The one header of ours that others see.
pub(crate) const WEFT_HOPS: HeaderName = HeaderName::from_static("weft-hops");
/// Ties log lines of one request together.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Envoy's and Istio's name for the caller's identity.
pub(crate) const XFCC: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
/// gRPC's status, in trailers or, in a trailers-only response, in the headers.
pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// The sentence to it.
pub(crate) const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// More than any sane chain of calls that still carries one request's headers on.
const MAX_HOPS: u32 = 16;

/// What the application's request was, seen by its headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Upgrade {
    /// The first token of `Upgrade`, or `:protocol`.
    pub(crate) token: HeaderValue,
}

/// The protocol that an HTTP/1.1 request asks to switch to. `h2c` is no such wish: the proxy speaks HTTP/2 by
/// prior knowledge only, and RFC 9110 7.8 lets it ignore the header.
pub(crate) fn upgrade_wanted(headers: &HeaderMap) -> Option<Upgrade> {
    let token = headers.get(UPGRADE)?;
    let listed = tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"));
    let text = token.to_str().ok()?;
    let wanted = listed && !text.is_empty() && !text.eq_ignore_ascii_case("h2c");
    wanted.then(|| Upgrade { token: token.clone() })
}

/// Removes what is between two neighbours only (RFC 9110 7.6.1), on the way to the application's peer.
/// `te: trailers` stays, gRPC needs it.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // Most heads have none of them: one look at the names is cheaper than asking the map for each.
    if !headers.keys().any(is_hop_by_hop) {
        return;
    }
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
            .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
            // Neither may be taken away by a client's wish: the request would lose its meaning.
            .filter(|name| *name != HOST && *name != CONTENT_LENGTH && *name != TE)
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in [
        &KEEP_ALIVE,
        &PROXY_CONNECTION,
        &PROXY_AUTHENTICATE,
        &PROXY_AUTHORIZATION,
        &TRANSFER_ENCODING,
        &UPGRADE,
        &HTTP2_SETTINGS,
    ] {
        headers.remove(name);
    }
    if headers.contains_key(TE) {
        let trailers = tokens(headers, &TE).any(|token| token.eq_ignore_ascii_case("trailers"));
        headers.remove(TE);
        if trailers {
            headers.insert(TE, TRAILERS);
        }
    }
}

/// Refuses a response over HTTP/2 that an HTTP/1 caller would read in another way. HTTP/1's are judged where they are read.
pub(crate) fn well_formed<B>(response: &Response<B>) -> Result<(), Failure> {
    if response.version() != Version::HTTP_2 {
        return Ok(());
    }
    message::response(response.headers()).map_err(Failure::malformed_response)
}

/// [`strip_hop_by_hop`] for a response, and what our proxies told each other with it, but for `weft-status`, which is read later.
pub(crate) fn strip_hop_by_hop_of_response(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    let status = headers.remove(WEFT_STATUS);
    strip_weft(headers);
    if let Some(status) = status {
        headers.insert(WEFT_STATUS, status);
    }
}

/// Removes every `weft-*` header: on the way from an application nobody may write them but its proxy, and none
/// reaches an application of the mesh.
pub(crate) fn strip_weft(headers: &mut HeaderMap) {
    if !headers.keys().any(is_weft) {
        return;
    }
    let ours: Vec<HeaderName> = headers.keys().filter(|name| is_weft(name)).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
            | "te"
    )
}

fn is_weft(name: &HeaderName) -> bool {
    name.as_str().starts_with("weft-")
}

/// Marks values that no two requests share as never to be put into a connection's table of headers (RFC 7541 7.1.3).
/// There each would push out what every request repeats, and h2 compares a new value with all of its name.
pub(crate) fn never_indexed(headers: &mut HeaderMap) {
    for (name, value) in headers.iter_mut() {
        if is_of_one_request(name) {
            value.set_sensitive(true);
        }
    }
}

fn is_of_one_request(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "x-request-id" | "traceparent" | "b3" | "x-b3-traceid" | "x-b3-spanid" | "grpc-timeout"
    )
}

/// Counts this proxy in. `None`: the request went round in circles.
pub(crate) fn count_hop(headers: &mut HeaderMap, before: u32) -> Option<()> {
    (before < MAX_HOPS).then(|| {
        headers.insert(WEFT_HOPS, HeaderValue::from(before.saturating_add(1)));
    })
}

/// The hops so far; what does not parse counts as too many.
pub(crate) fn hops(headers: &HeaderMap) -> u32 {
    match headers.get(WEFT_HOPS) {
        None => 0,
        Some(value) => number(value).unwrap_or(u32::MAX),
    }
}

/// Gives the request an id where it has none, and returns it.
pub(crate) fn request_id(headers: &mut HeaderMap) -> Option<HeaderValue> {
    if let Some(known) = headers.get(X_REQUEST_ID) {
        return Some(known.clone());
    }
    let made = HeaderValue::from_bytes(&uuid_text(rand::random())).ok()?;
    headers.insert(X_REQUEST_ID, made.clone());
    Some(made)
}

/// A random number in the form of a version 4 UUID, which is what log tools expect of a request id.
fn uuid_text(random: u128) -> [u8; 36] {
    let mut bits = (random & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let mut text = [b'-'; 36];
    for (at, place) in text.iter_mut().enumerate() {
        if !matches!(at, 8 | 13 | 18 | 23) {
            bits = bits.rotate_left(4);
            let digit = (bits & 0xf) as u8;
            *place = if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
        }
    }
    text
}

/// `Host`, or `:authority` where the request came over HTTP/2 or in absolute form.
pub(crate) fn authority(uri: &Uri, headers: &HeaderMap) -> Option<HeaderValue> {
    match uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => headers.get(HOST).cloned(),
    }
}

/// Whether it is a gRPC request, whose failures are trailers.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(http::header::CONTENT_TYPE) else { return false };
    let Some(rest) = kind.as_bytes().strip_prefix(b"application/grpc") else { return false };
    matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// gRPC's status from headers or trailers.
pub(crate) fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get(GRPC_STATUS).and_then(number)
}

/// A decimal number, as in `weft-port`.
pub(crate) fn number<N: std::str::FromStr>(value: &HeaderValue) -> Option<N> {
    value.to_str().ok()?.parse().ok()
}

/// Whether the request may be sent twice, should nobody know if the first was worked on (RFC 9110 9.2.2).
pub(crate) fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE | Method::TRACE
    )
}

fn tokens<'a>(headers: &'a HeaderMap, name: &'a HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        let parse = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
        };
        let mut map = HeaderMap::new();
        for (name, value) in pairs.iter().map(parse) {
            map.append(name, value);
        }
        map
    }

    #[test]
    fn hop_by_hop_headers_and_those_that_connection_names_are_removed() {
        let mut headers = map(&[
            ("host", "api"),
            ("connection", "close, X-Secret"),
            ("connection", "x-more"),
            ("x-secret", "1"),
            ("x-more", "2"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "gzip, trailers"),
            ("x-kept", "3"),
        ]);
        strip_hop_by_hop(&mut headers);
        let left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left.len(), 3, "{left:?}");
        assert_eq!(headers.get(TE).unwrap(), "trailers");
        assert!(headers.contains_key("x-kept") && headers.contains_key(HOST));
    }

    #[test]
    fn connection_cannot_take_away_the_host_or_the_length() {
        let mut headers =
            map(&[("host", "api"), ("content-length", "3"), ("connection", "host, content-length")]);
        strip_hop_by_hop(&mut headers);
        assert!(headers.contains_key(HOST) && headers.contains_key(CONTENT_LENGTH));
    }

    #[test]
    fn te_without_trailers_is_removed() {
        let mut headers = map(&[("te", "gzip")]);
        strip_hop_by_hop(&mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn an_application_cannot_write_the_headers_of_the_proxies() {
        let mut headers = map(&[("weft-port", "1"), ("Weft-Anything", "x"), ("weftless", "kept")]);
        strip_weft(&mut headers);
        assert_eq!(headers.len(), 1);
        assert!(headers.contains_key("weftless"));
    }

    #[test]
    fn values_of_one_request_are_marked_and_others_are_not() {
        let mut headers = map(&[("x-request-id", "1"), ("traceparent", "2"), ("x-other", "3")]);
        never_indexed(&mut headers);
        let marked: Vec<&str> =
            headers.iter().filter(|(_, value)| value.is_sensitive()).map(|(name, _)| name.as_str()).collect();
        assert_eq!(marked, ["x-request-id", "traceparent"]);
    }

    #[test]
    fn an_upgrade_needs_both_headers_and_h2c_is_none() {
        assert!(upgrade_wanted(&map(&[("upgrade", "websocket")])).is_none());
        assert!(upgrade_wanted(&map(&[("connection", "upgrade"), ("upgrade", "h2c")])).is_none());
        let wanted = upgrade_wanted(&map(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]));
        assert_eq!(wanted.unwrap().token, "websocket");
    }

    #[test]
    fn a_request_id_is_kept_or_made_as_a_version_4_uuid() {
        let mut headers = map(&[("x-request-id", "mine")]);
        assert_eq!(request_id(&mut headers).unwrap(), "mine");
        let mut empty = HeaderMap::new();
        let made = request_id(&mut empty).unwrap();
        assert_eq!(empty.get(X_REQUEST_ID), Some(&made));
        assert_eq!(&uuid_text(0), b"00000000-0000-4000-8000-000000000000");
        assert_eq!(&uuid_text(u128::MAX), b"ffffffff-ffff-4fff-bfff-ffffffffffff");
    }

    #[test]
    fn a_request_that_runs_in_circles_is_noticed() {
        let mut headers = HeaderMap::new();
        let mut passed = 0;
        loop {
            let before = hops(&headers);
            if count_hop(&mut headers, before).is_none() {
                break;
            }
            passed += 1;
            assert!(passed <= MAX_HOPS, "never noticed");
        }
        assert_eq!(passed, MAX_HOPS);
        assert_eq!(hops(&map(&[("weft-hops", "nonsense")])), u32::MAX);
    }

    #[test]
    fn grpc_is_told_from_what_only_starts_alike() {
        for (kind, is) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=x", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            assert_eq!(is_grpc(&map(&[("content-type", kind)])), is, "{kind}");
        }
    }

    proptest! {
        #[test]
        fn stripping_never_panics_and_leaves_nothing_of_ours(
            names in prop::collection::vec("[a-z-]{1,12}", 0..8), connection in "[ -~]{0,40}"
        ) {
            let mut headers = HeaderMap::new();
            for name in &names {
                if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
                    headers.insert(name, HeaderValue::from_static("x"));
                }
            }
            headers.insert(CONNECTION, HeaderValue::from_str(&connection).unwrap());
            strip_hop_by_hop(&mut headers);
            strip_weft(&mut headers);
            prop_assert!(!headers.contains_key(CONNECTION));
            prop_assert!(!headers.keys().any(is_weft));
        }
    }
}
