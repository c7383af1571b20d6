//! HTTP/1: heads, bodies and paths. The first byte says whether requests or responses follow, the second where the bytes
//! are cut in two.
//!
//! However the bytes come, they are read alike. What is passed on is read as the same by ourselves, has exactly one
//! framing, and is a message to httparse too, an implementation that is not ours. A path has one form.

#![no_main]

use bytes::BytesMut;
use http::header::HOST;
use http::{HeaderMap, Method};
use libfuzzer_sys::fuzz_target;
use weft_http::http1::encode::{self, Announce};
use weft_http::http1::{
    Decoded, Decoder, Framing, Limits, RequestHead, ResponseHead, Scan, request, response,
};
use weft_http::{path, trailers};

const LIMITS: Limits = Limits::new(8192);
/// Whoever reads what is sent on: a head at the limits has grown by a host and by a space in each field.
const BEHIND: Limits = Limits { head: 2 * LIMITS.head, fields: LIMITS.fields + 1, ..LIMITS };

fuzz_target!(|bytes: &[u8]| {
    let [kind, cut, bytes @ ..] = bytes else { return };
    let at = usize::from(*cut) * bytes.len() / 256;
    let (first, second) = bytes.split_at(at);
    match kind % 4 {
        0 => responses(&[bytes], &[first, second], &Method::HEAD),
        1 => responses(&[bytes], &[first, second], &Method::GET),
        _ => requests(&[bytes], &[first, second]),
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        one_form(text);
    }
});

fn requests(whole: &[&[u8]], split: &[&[u8]]) {
    let read = read(whole, |buffer, scan| request::take(buffer, scan, &LIMITS).map(|head| head.map(framed)));
    let again =
        self::read(split, |buffer, scan| request::take(buffer, scan, &LIMITS).map(|head| head.map(framed)));
    assert_eq!(read.is_err(), again.is_err(), "pieces are judged otherwise than the whole");
    let Ok(Some(mut message)) = read else { return };
    assert_eq!(Some(&message), again.ok().flatten().as_ref(), "pieces are read otherwise than the whole");
    // The proxy always writes one; HTTP/1.0 need not have it.
    let authority = message.head.uri.authority().map_or("a", |authority| authority.as_str());
    let host = authority.parse().expect("an authority is a value");
    message.head.headers.entry(HOST).or_insert(host);
    let mut out = BytesMut::new();
    let target = message.head.uri.to_string();
    let announce = announce(&message);
    encode::request(&mut out, &message.head.method, &target, &message.head.headers, &[], announce);
    let head = out.len();
    write(&mut out, &message, announce);
    one_message(out.get(..head).unwrap_or_default(), |text| {
        let mut fields = [httparse::EMPTY_HEADER; 200];
        let mut parsed = httparse::Request::new(&mut fields);
        let status = parsed.parse(text).expect("httparse refuses what is sent on");
        assert!(status.is_complete());
        assert_eq!(parsed.method, Some(message.head.method.as_str()));
        let hosts = parsed.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("host")).count();
        assert_eq!(hosts, 1, "one host");
        parsed.headers.len()
    });
    if message.head.method == Method::CONNECT || message.head.method == Method::TRACE {
        return;
    }
    let back =
        self::read(&[&out], |buffer, scan| request::take(buffer, scan, &BEHIND).map(|head| head.map(framed)));
    let back = back.ok().flatten().expect("what is sent on is refused by ourselves");
    assert_eq!((&back.head.uri, &back.head.method), (&message.head.uri, &message.head.method));
    assert_eq!(back.body, message.body, "the body is another one behind us");
    assert!(back.rest.is_empty(), "there is a second message in what is sent on");
}

fn responses(whole: &[&[u8]], split: &[&[u8]], method: &Method) {
    let take = |buffer: &mut BytesMut, scan: &mut Scan| {
        response::take(buffer, scan, method, &LIMITS).map(|head| head.map(answered))
    };
    let (read, again) = (read(whole, take), self::read(split, take));
    assert_eq!(read.is_err(), again.is_err(), "pieces are judged otherwise than the whole");
    let Ok(Some(message)) = read else { return };
    assert_eq!(Some(&message), again.ok().flatten().as_ref(), "pieces are read otherwise than the whole");
    let mut out = BytesMut::new();
    let announce = announce(&message);
    encode::response(&mut out, message.head.status, &message.head.headers, None, announce);
    one_message(&out, |text| {
        let mut fields = [httparse::EMPTY_HEADER; 200];
        let mut parsed = httparse::Response::new(&mut fields);
        let status = parsed.parse(text).expect("httparse refuses what is sent on");
        assert!(status.is_complete());
        parsed.headers.len()
    });
}

/// A head that says one thing only, to whoever reads it.
fn one_message(head: &[u8], other: impl Fn(&[u8]) -> usize) {
    assert!(head.ends_with(b"\r\n\r\n"));
    let lines: Vec<&[u8]> = head.split(|byte| *byte == b'\n').collect();
    assert!(lines.iter().filter(|line| !line.is_empty()).all(|line| line.ends_with(b"\r")), "a bare LF");
    assert!(head.iter().all(|byte| *byte != 0), "a NUL");
    assert_eq!(head.iter().filter(|byte| **byte == b'\r').count(), lines.len() - 1, "a bare CR");
    let named = |name: &[u8]| lines.iter().filter(|line| line.to_ascii_lowercase().starts_with(name)).count();
    assert!(named(b"content-length:") + named(b"transfer-encoding:") <= 1, "two framings");
    assert_eq!(other(head), lines.len() - 3, "another number of fields");
}

/// One message as it was read.
#[derive(Debug, PartialEq)]
struct Message<H> {
    head: H,
    framing: Framing,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
    rest: Vec<u8>,
}

fn framed(head: RequestHead) -> (RequestHead, Framing) {
    let framing = head.framing;
    (head, framing)
}

fn answered(head: ResponseHead) -> (ResponseHead, Framing) {
    let framing = head.framing;
    (head, framing)
}

/// Reads the first message of bytes that come in these pieces.
fn read<H, E>(
    pieces: &[&[u8]],
    take: impl Fn(&mut BytesMut, &mut Scan) -> Result<Option<(H, Framing)>, E>,
) -> Result<Option<Message<H>>, ()> {
    let (mut buffer, mut scan, mut body, mut rest) =
        (BytesMut::new(), Scan::default(), Vec::new(), Vec::new());
    let (mut begun, mut ended) = (None, None);
    for piece in pieces {
        if ended.is_some() {
            rest.extend_from_slice(piece);
            continue;
        }
        buffer.extend_from_slice(piece);
        if begun.is_none() {
            let head = take(&mut buffer, &mut scan).map_err(drop)?;
            begun = head.map(|(head, framing)| (head, framing, Decoder::new(framing, LIMITS)));
        }
        let Some((_, _, decoder)) = &mut begun else { continue };
        loop {
            match decoder.decode(&mut buffer).map_err(drop)? {
                Decoded::More => break,
                Decoded::Data(data) => {
                    assert!(!data.is_empty());
                    body.extend_from_slice(&data);
                }
                Decoded::End(trailers) => {
                    ended = Some(trailers);
                    rest.extend_from_slice(&buffer);
                    break;
                }
            }
        }
    }
    let (Some((head, framing, _)), Some(trailers)) = (begun, ended) else { return Ok(None) };
    Ok(Some(Message { head, framing, body, trailers, rest }))
}

fn announce<H>(message: &Message<H>) -> Announce {
    match message.framing {
        Framing::None | Framing::UntilClose => Announce::Nothing,
        Framing::Length(length) => Announce::Length(length),
        Framing::Chunked => Announce::Chunked,
    }
}

fn write<H>(out: &mut BytesMut, message: &Message<H>, announce: Announce) {
    if announce != Announce::Chunked {
        return out.extend_from_slice(&message.body);
    }
    if !message.body.is_empty() {
        encode::chunk(out, message.body.len());
        out.extend_from_slice(&message.body);
        out.extend_from_slice(b"\r\n");
    }
    let mut kept = message.trailers.clone();
    kept.iter_mut().for_each(|kept| _ = trailers::purge(kept));
    encode::last_chunk(out, kept.as_ref());
}

/// A path that is taken has a form that no reader changes any more.
fn one_form(text: &str) {
    if !text.starts_with('/') {
        return;
    }
    let Ok(made) = path::normalise(text) else { return };
    let form = made.unwrap_or_else(|| text.to_owned());
    assert_eq!(path::normalise(&form).expect("its own form is refused"), None, "not a last form: {form}");
    let path = form.split_once('?').map_or(form.as_str(), |(path, _)| path);
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    for (n, segment) in segments.iter().enumerate() {
        let plain = segment.replace("%2E", ".").replace("%2e", ".");
        assert!(plain != "." && plain != "..", "a dot segment in {form}");
        assert!(!segment.is_empty() || n + 1 == segments.len(), "an empty segment in {form}");
    }
    assert!(!path.contains('\\') && !path.contains("%00"));
}
