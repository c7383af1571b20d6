//! Written is read as it was, split as it may be, and random bytes do no harm.

use http::{HeaderName, HeaderValue, StatusCode};
use proptest::prelude::*;

use super::*;

fn headers() -> impl Strategy<Value = HeaderMap> {
    let field = ("x-[a-z0-9]{1,6}", "([!-~]([ -~]{0,10}[!-~])?)?");
    prop::collection::vec(field, 0..8).prop_map(|fields| {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("a"));
        for (name, value) in fields {
            headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
        }
        headers
    })
}

#[derive(Debug, Clone)]
enum Body {
    None,
    Length(Vec<u8>),
    Chunked(Vec<Vec<u8>>, Option<HeaderMap>),
}

fn body() -> impl Strategy<Value = Body> {
    let bytes = || prop::collection::vec(any::<u8>(), 1..40);
    prop_oneof![
        Just(Body::None),
        bytes().prop_map(Body::Length),
        (prop::collection::vec(bytes(), 0..4), prop::option::of(headers()))
            .prop_map(|(chunks, trailers)| Body::Chunked(chunks, trailers)),
    ]
}

impl Body {
    fn announce(&self) -> encode::Announce {
        match self {
            Self::None => encode::Announce::Nothing,
            Self::Length(bytes) => encode::Announce::Length(bytes.len() as u64),
            Self::Chunked(..) => encode::Announce::Chunked,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::None => Vec::new(),
            Self::Length(bytes) => bytes.clone(),
            Self::Chunked(chunks, _) => chunks.concat(),
        }
    }

    fn write(&self, out: &mut BytesMut) {
        match self {
            Self::None => {}
            Self::Length(bytes) => out.extend_from_slice(bytes),
            Self::Chunked(chunks, trailers) => {
                for chunk in chunks {
                    encode::chunk(out, chunk.len());
                    out.extend_from_slice(chunk);
                    out.extend_from_slice(b"\r\n");
                }
                encode::last_chunk(out, trailers.as_ref());
            }
        }
    }

    fn trailers(&self) -> Option<HeaderMap> {
        match self {
            Self::Chunked(_, trailers) => trailers.clone(),
            _ => None,
        }
    }
}

/// Without what the framing adds.
fn plain(mut headers: HeaderMap) -> HeaderMap {
    headers.remove("content-length");
    headers.remove("transfer-encoding");
    headers
}

proptest! {
    #[test]
    fn a_request_is_read_as_it_was_written_at_every_split(
        method in "[A-Z]{1,8}", path in "/[a-z0-9/]{0,20}(\\?[a-z=&]{0,10})?", headers in headers(), body in body(),
        next in prop::collection::vec(any::<u8>(), 0..8),
    ) {
        prop_assume!(method != "CONNECT" && method != "TRACE");
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut out = BytesMut::new();
        encode::request(&mut out, &method, &path, &headers, &[], body.announce());
        body.write(&mut out);
        let length = out.len();
        out.extend_from_slice(&next);
        let whole = request(&[&out]).unwrap().unwrap();
        prop_assert_eq!(&whole.head.method, &method);
        prop_assert_eq!(whole.head.uri.to_string(), path);
        prop_assert_eq!(plain(whole.head.headers.clone()), headers);
        prop_assert_eq!(&whole.body, &body.bytes());
        prop_assert_eq!(&whole.trailers, &body.trailers());
        prop_assert_eq!(&whole.rest, &next);
        for at in 0..length {
            let (first, second) = out.split_at(at);
            let split = request(&[first, second]).unwrap();
            prop_assert_eq!(split.as_ref(), Some(&whole), "split at {}", at);
        }
        let bytes: Vec<&[u8]> = out.chunks(1).collect();
        let split = request(&bytes).unwrap();
        prop_assert_eq!(split.as_ref(), Some(&whole));
    }

    #[test]
    fn a_response_is_read_as_it_was_written_at_every_split(
        status in 200u16..600, headers in headers(), body in body(),
    ) {
        prop_assume!(status != 204 && status != 304);
        let status = StatusCode::from_u16(status).unwrap();
        let mut out = BytesMut::new();
        let announce = match body { Body::None => encode::Announce::Length(0), _ => body.announce() };
        encode::response(&mut out, status, &headers, None, announce);
        body.write(&mut out);
        let whole = response(&[&out], &Method::GET).unwrap().unwrap();
        prop_assert_eq!(whole.head.status, status);
        prop_assert_eq!(plain(whole.head.headers.clone()), headers);
        prop_assert_eq!(&whole.body, &body.bytes());
        for at in 0..out.len() {
            let (first, second) = out.split_at(at);
            let split = response(&[first, second], &Method::GET).unwrap();
            prop_assert_eq!(split.as_ref(), Some(&whole), "split at {}", at);
        }
    }

    #[test]
    fn what_is_read_and_written_again_is_read_as_the_same(bytes in near_http()) {
        let Ok(Some(read)) = request(&[&bytes]) else { return Ok(()) };
        let mut out = BytesMut::new();
        let target = read.head.uri.to_string();
        encode::request(&mut out, &read.head.method, &target, &read.head.headers, &[], encode::Announce::Length(read.body.len() as u64));
        out.extend_from_slice(&read.body);
        if read.head.method == Method::TRACE || read.head.method == Method::CONNECT {
            return Ok(());
        }
        let again = request(&[&out]).unwrap().unwrap();
        prop_assert_eq!(again.head.uri, read.head.uri);
        prop_assert_eq!(plain(again.head.headers), plain(read.head.headers));
        prop_assert_eq!(again.body, read.body);
    }

    #[test]
    fn any_bytes_in_any_pieces_are_read_or_refused_alike(bytes in near_http(), at in any::<prop::sample::Index>()) {
        let (first, second) = bytes.split_at(at.index(bytes.len() + 1));
        // Which of several faults is named may depend on where the first piece ends; that one is named may not.
        let (whole, split) = (request(&[&bytes]), request(&[first, second]));
        prop_assert_eq!(whole.is_err(), split.is_err());
        prop_assert_eq!(whole.ok(), split.ok());
        let (whole, split) = (response(&[&bytes], &Method::GET), response(&[first, second], &Method::GET));
        prop_assert_eq!(whole.is_err(), split.is_err());
    }
}

/// Bytes that are a few steps away from HTTP.
fn near_http() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just("GET / HTTP/1.1\r\n".to_owned()),
        Just("POST http://a/b HTTP/1.1\r\n".to_owned()),
        Just("HTTP/1.1 200 OK\r\n".to_owned()),
        Just("Host: a\r\n".to_owned()),
        Just("Content-Length: 3\r\n".to_owned()),
        Just("Transfer-Encoding: chunked\r\n".to_owned()),
        Just("\r\n".to_owned()),
        Just("3\r\nabc\r\n".to_owned()),
        Just("0\r\n\r\n".to_owned()),
        Just("abc".to_owned()),
        "[ -~\r\n\t]{0,6}",
    ];
    prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat().into_bytes())
}
