//! Which fields trailers may carry.
//!
//! A field that frames, routes, authenticates or changes how a message is read must come before its body (RFC 9110
//! 6.5.1): who merges trailers into the head would otherwise take them from a place that nobody checked. Such fields are
//! dropped and the message goes on, since the rule is that recipients ignore them.

use http::{HeaderMap, HeaderName};

/// Removes the fields that may not be there; how many they were.
pub fn purge(trailers: &mut HeaderMap) -> usize {
    if trailers.keys().all(is_allowed) {
        return 0;
    }
    let wrong: Vec<HeaderName> = trailers.keys().filter(|name| !is_allowed(name)).cloned().collect();
    for name in &wrong {
        trailers.remove(name);
    }
    wrong.len()
}

/// Whether a field may stand in trailers.
pub fn is_allowed(name: &HeaderName) -> bool {
    let name = name.as_str();
    !FORBIDDEN.contains(&name) && !FAMILIES.iter().any(|family| name.starts_with(family))
}

/// Whole families by their first letters.
const FAMILIES: [&str; 5] = ["weft-", "x-forwarded-", "proxy-", "if-", "access-control-"];

const FORBIDDEN: [&str; 33] = [
    // Framing and the connection.
    "connection",
    "content-length",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    // Routing and controls.
    "cache-control",
    "expect",
    "forwarded",
    "host",
    "max-forwards",
    "pragma",
    "range",
    "via",
    "x-real-ip",
    "x-request-id",
    // Who asks.
    "authorization",
    "cookie",
    "set-cookie",
    "set-cookie2",
    "www-authenticate",
    // How the content is read.
    "content-encoding",
    "content-range",
    "content-type",
    "content-disposition",
    // What the answer is.
    "age",
    "date",
    "expires",
    "location",
    "retry-after",
    "vary",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_frames_routes_or_authenticates_is_dropped_and_the_rest_stays() {
        let mut trailers = HeaderMap::new();
        for name in [
            "content-length",
            "host",
            "authorization",
            "weft-port",
            "x-forwarded-for",
            "if-match",
            "grpc-status",
            "x-checksum",
        ] {
            trailers.append(HeaderName::from_static(name), http::HeaderValue::from_static("1"));
        }
        assert_eq!(purge(&mut trailers), 6);
        assert!(
            trailers.len() == 2
                && trailers.contains_key("grpc-status")
                && trailers.contains_key("x-checksum")
        );
        assert_eq!(purge(&mut trailers), 0);
    }
}
