//! Bodies: chunks that are wrong, and where a good body ends.

use super::*;

fn chunked(body: &str) -> Result<Option<Read<RequestHead>>, Refused> {
    request(&[format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}").as_bytes()])
}

#[test]
fn chunks_that_readers_disagree_on_are_refused() {
    let long = format!("1;{}\r\n", "x".repeat(5000));
    for (body, expected) in [
        ("x\r\n", Malformed::Chunk),
        ("+3\r\nabc\r\n0\r\n\r\n", Malformed::Chunk),
        ("-1\r\n", Malformed::Chunk),
        ("0x3\r\nabc\r\n0\r\n\r\n", Malformed::Chunk),
        ("3 \r\nabc\r\n0\r\n\r\n", Malformed::Chunk),
        (" 3\r\nabc\r\n0\r\n\r\n", Malformed::Chunk),
        ("3\t;a\r\nabc\r\n0\r\n\r\n", Malformed::Chunk),
        ("\r\n", Malformed::Chunk),
        (";a\r\n", Malformed::Chunk),
        ("10000000000000000\r\n", Malformed::Chunk),
        ("3\nabc\r\n", Malformed::Chunk),
        ("3\rabc\r\n", Malformed::Chunk),
        ("3;a\nbc\r\n", Malformed::Chunk),
        ("3;a\0\r\n", Malformed::Chunk),
        (&long, Malformed::Chunk),
        ("3\r\nabcd\r\n0\r\n\r\n", Malformed::Chunk),
        ("3\r\nabc0\r\n\r\n", Malformed::Chunk),
        ("3\r\nabc\n0\r\n\r\n", Malformed::Chunk),
        ("0\r\nA : b\r\n\r\n", Malformed::FieldName),
        ("0\r\n A: b\r\n\r\n", Malformed::Folding),
        ("0\r\nA: b\n\r\n", Malformed::LineEnd),
        ("0\r\nContent-Length: x\r\n\r\n", Malformed::ContentLength),
        (&format!("0\r\nA: {}\r\n\r\n", "x".repeat(5000)), Malformed::Trailers),
        (&format!("0\r\n{}\r\n", "A: b\r\n".repeat(17)), Malformed::Trailers),
    ] {
        assert_eq!(kind(chunked(body)), Some(expected), "{body:?}");
    }
}

#[test]
fn chunks_with_extensions_and_trailers_are_read_to_their_end_and_no_further() {
    let read = chunked("3;a=\"b c\"\r\nabc\r\n0010\r\n0123456789abcdef\r\n0;x\r\nA: b\r\n\r\nGET /next")
        .unwrap()
        .unwrap();
    assert_eq!(read.body, b"abc0123456789abcdef");
    assert_eq!(read.trailers.unwrap()["a"], "b");
    assert_eq!(read.rest, b"GET /next");
}

#[test]
fn a_length_is_kept_to_the_byte() {
    let read = request(&[b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET"]).unwrap().unwrap();
    assert_eq!((read.body.as_slice(), read.rest.as_slice()), (&b"abc"[..], &b"GET"[..]));
}

#[test]
fn an_end_within_a_body_is_told_from_the_end_of_one() {
    let mut until_close = Decoder::new(Framing::UntilClose, LIMITS);
    assert_eq!(until_close.close(), Ok(()));
    assert!(until_close.is_done());
    assert_eq!(Decoder::new(Framing::Length(1), LIMITS).close(), Err(Incomplete));
    let mut chunks = Decoder::new(Framing::Chunked, LIMITS);
    assert!(matches!(chunks.decode(&mut BytesMut::from("1\r\na\r\n")), Ok(Decoded::Data(_))));
    assert_eq!(chunks.close(), Err(Incomplete));
}

#[test]
fn what_has_come_of_a_chunked_body_can_be_checked_before_any_of_it_is_used() {
    let decoder = Decoder::new(Framing::Chunked, LIMITS);
    assert_eq!(decoder.check(b"3\r\nabc\r\n2\r\na"), Ok(()));
    assert_eq!(decoder.check(b"3\r\nabc\r\n0\r\n\r\nnext"), Ok(()));
    assert_eq!(decoder.check(b"3\r\nabc\r\nx").unwrap_err().kind, Malformed::Chunk);
    assert_eq!(Decoder::new(Framing::Length(3), LIMITS).check(b"x"), Ok(()));
}
