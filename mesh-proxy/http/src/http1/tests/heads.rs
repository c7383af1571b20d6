//! Heads that are refused, and those that only look as if they should be.

use super::*;

const HOST: &str = "Host: a\r\n";

/// Each head is refused as what stands beside it.
fn all_refused(rows: impl IntoIterator<Item = (String, Malformed)>) {
    for (head, expected) in rows {
        assert_eq!(kind(request(&[head.as_bytes()])), Some(expected), "{head:?}");
    }
}

#[test]
fn a_request_whose_end_is_ambiguous_is_refused() {
    all_refused([
        (
            format!("POST / HTTP/1.1\r\n{HOST}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Malformed::LengthAndEncoding,
        ),
        (
            format!("POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"),
            Malformed::LengthAndEncoding,
        ),
        (
            format!("POST / HTTP/1.1\r\n{HOST}Content-Length: 3\r\nContent-Length: 4\r\n\r\n"),
            Malformed::ContentLength,
        ),
        (
            format!("POST / HTTP/1.1\r\n{HOST}Content-Length: 3\r\nContent-Length: 3\r\n\r\n"),
            Malformed::ContentLength,
        ),
        (format!("POST / HTTP/1.1\r\n{HOST}Content-Length: 3, 3\r\n\r\n"), Malformed::ContentLength),
        (format!("POST / HTTP/1.1\r\n{HOST}Content-Length: +3\r\n\r\n"), Malformed::ContentLength),
        (format!("POST / HTTP/1.1\r\n{HOST}Content-Length: -3\r\n\r\n"), Malformed::ContentLength),
        (format!("POST / HTTP/1.1\r\n{HOST}Content-Length: 0x3\r\n\r\n"), Malformed::ContentLength),
        (format!("POST / HTTP/1.1\r\n{HOST}Content-Length: 3 3\r\n\r\n"), Malformed::ContentLength),
        (format!("POST / HTTP/1.1\r\n{HOST}Content-Length:\r\n\r\n"), Malformed::ContentLength),
        (
            format!("POST / HTTP/1.1\r\n{HOST}Content-Length: 18446744073709551616\r\n\r\n"),
            Malformed::ContentLength,
        ),
        (
            format!("POST / HTTP/1.1\r\n{HOST}Content-Length: 9223372036854775808\r\n\r\n"),
            Malformed::ContentLength,
        ),
    ]);
}

#[test]
fn a_transfer_coding_that_readers_disagree_on_is_refused() {
    all_refused([
        (
            format!("POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked, chunked\r\n\r\n"),
            Malformed::TransferEncoding,
        ),
        (
            format!(
                "POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
            ),
            Malformed::TransferEncoding,
        ),
        (
            format!("POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked, gzip\r\n\r\n"),
            Malformed::TransferEncoding,
        ),
        (
            format!("POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: ,chunked\r\n\r\n"),
            Malformed::TransferEncoding,
        ),
        (
            format!("POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked;q=1\r\n\r\n"),
            Malformed::TransferEncoding,
        ),
        (format!("POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: \r\n\r\n"), Malformed::TransferEncoding),
        (format!("POST / HTTP/1.0\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n"), Malformed::TransferEncoding),
        (
            format!("POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: gzip, chunked\r\n\r\n"),
            Malformed::UnknownEncoding,
        ),
        (format!("POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: identity\r\n\r\n"), Malformed::UnknownEncoding),
        (format!("POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: xchunked\r\n\r\n"), Malformed::UnknownEncoding),
        (format!("TRACE / HTTP/1.1\r\n{HOST}Content-Length: 3\r\n\r\nabc"), Malformed::Body),
        (format!("CONNECT a:1 HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n"), Malformed::Body),
    ]);
}

#[test]
fn a_field_that_is_not_one_is_refused() {
    all_refused([
        (format!("GET / HTTP/1.1\r\n{HOST}A: b\r\n c\r\n\r\n"), Malformed::Folding),
        (format!("GET / HTTP/1.1\r\n{HOST}A: b\r\n\tc\r\n\r\n"), Malformed::Folding),
        (format!("GET / HTTP/1.1\r\n {HOST}\r\n"), Malformed::Folding),
        (format!("GET / HTTP/1.1\r\n{HOST}Content-Length : 3\r\n\r\n"), Malformed::FieldName),
        (format!("GET / HTTP/1.1\r\n{HOST}A\t: 3\r\n\r\n"), Malformed::FieldName),
        (format!("GET / HTTP/1.1\r\n{HOST}: 3\r\n\r\n"), Malformed::FieldName),
        (format!("GET / HTTP/1.1\r\n{HOST}A b: 3\r\n\r\n"), Malformed::FieldName),
        (format!("GET / HTTP/1.1\r\n{HOST}no colon\r\n\r\n"), Malformed::FieldName),
        (format!("GET / HTTP/1.1\r\n{HOST}A\0: 3\r\n\r\n"), Malformed::FieldName),
        (format!("GET / HTTP/1.1\r\n{HOST}A: b\0c\r\n\r\n"), Malformed::FieldValue),
        (format!("GET / HTTP/1.1\r\n{HOST}A: b\x0bc\r\n\r\n"), Malformed::FieldValue),
        (format!("GET / HTTP/1.1\r\n{HOST}A: b\x7f\r\n\r\n"), Malformed::FieldValue),
        (format!("GET / HTTP/1.1\r\n{HOST}A: b\rc\r\n\r\n"), Malformed::LineEnd),
        (format!("GET / HTTP/1.1\r\n{HOST}A: b\nc: d\r\n\r\n"), Malformed::LineEnd),
        (format!("GET / HTTP/1.1\r\n{HOST}A: b\r\r\n\r\n"), Malformed::LineEnd),
        ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), Malformed::LineEnd),
        (format!("GET / HTTP/1.1\r\n{HOST}\n"), Malformed::LineEnd),
    ]);
}

#[test]
fn a_request_line_that_is_not_one_is_refused() {
    let long = "x".repeat(70);
    all_refused([
        (format!("GET  / HTTP/1.1\r\n{HOST}\r\n"), Malformed::StartLine),
        (format!("GET /\r\n{HOST}\r\n"), Malformed::StartLine),
        (format!("GET\r\n{HOST}\r\n"), Malformed::StartLine),
        (format!("GET / HTTP/1.1 \r\n{HOST}\r\n"), Malformed::StartLine),
        (format!("GET / http/1.1\r\n{HOST}\r\n"), Malformed::StartLine),
        (format!("G(T / HTTP/1.1\r\n{HOST}\r\n"), Malformed::StartLine),
        (format!("GE\0T / HTTP/1.1\r\n{HOST}\r\n"), Malformed::StartLine),
        (format!(" GET / HTTP/1.1\r\n{HOST}\r\n"), Malformed::StartLine),
        (format!("\r\n\r\nGET / HTTP/1.1\r\n{HOST}\r\n"), Malformed::StartLine),
        ("\x16\x03\x01\x02\x00".to_owned(), Malformed::StartLine),
        (format!("GET /a b HTTP/1.1\r\n{HOST}\r\n"), Malformed::StartLine),
        (format!("GET / HTTP/1.2\r\n{HOST}\r\n"), Malformed::Version),
        (format!("GET / HTTP/0.9\r\n{HOST}\r\n"), Malformed::Version),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), Malformed::Version),
        (format!("{long} / HTTP/1.1\r\n{HOST}\r\n"), Malformed::Method),
    ]);
}

#[test]
fn a_target_of_a_wrong_form_is_refused() {
    all_refused([
        (format!("GET /\t HTTP/1.1\r\n{HOST}\r\n"), Malformed::Target),
        (format!("GET /a#b HTTP/1.1\r\n{HOST}\r\n"), Malformed::Target),
        (format!("GET /a\\b HTTP/1.1\r\n{HOST}\r\n"), Malformed::Target),
        (format!("GET /\u{e9} HTTP/1.1\r\n{HOST}\r\n"), Malformed::Target),
        (format!("GET /\0 HTTP/1.1\r\n{HOST}\r\n"), Malformed::Target),
        (format!("GET a HTTP/1.1\r\n{HOST}\r\n"), Malformed::Target),
        (format!("GET * HTTP/1.1\r\n{HOST}\r\n"), Malformed::Target),
        (format!("GET a:80 HTTP/1.1\r\n{HOST}\r\n"), Malformed::Target),
        (format!("GET ftp://a/ HTTP/1.1\r\n{HOST}\r\n"), Malformed::Target),
        (format!("GET http:///x HTTP/1.1\r\n{HOST}\r\n"), Malformed::Target),
        (format!("GET http://u@a/ HTTP/1.1\r\n{HOST}\r\n"), Malformed::Target),
        (format!("GET //a:b@c HTTP/1.1\r\n{HOST}Host: b\r\n\r\n"), Malformed::Host),
        (format!("CONNECT /x HTTP/1.1\r\n{HOST}\r\n"), Malformed::Target),
        (format!("CONNECT a HTTP/1.1\r\n{HOST}\r\n"), Malformed::Target),
        (format!("GET /{} HTTP/1.1\r\n{HOST}\r\n", "x".repeat(1025)), Malformed::TargetSize),
    ]);
}

#[test]
fn a_host_that_is_none_or_another_is_refused() {
    all_refused([
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), Malformed::Host),
        (format!("GET / HTTP/1.1\r\n{HOST}{HOST}\r\n"), Malformed::Host),
        ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(), Malformed::Host),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(), Malformed::Host),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".to_owned(), Malformed::Host),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n".to_owned(), Malformed::Host),
        ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n".to_owned(), Malformed::Host),
        ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Malformed::Host),
        ("GET http://a:81/ HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Malformed::Host),
        ("CONNECT b:1 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Malformed::Host),
    ]);
}

#[test]
fn what_is_too_large_or_expects_too_much_is_refused() {
    all_refused([
        (format!("GET / HTTP/1.1\r\n{HOST}{}\r\n", "A: b\r\n".repeat(16)), Malformed::HeadSize),
        (format!("GET / HTTP/1.1\r\n{HOST}A: {}\r\n\r\n", "b".repeat(4096)), Malformed::HeadSize),
        (format!("GET /{}", "b".repeat(4096)), Malformed::TargetSize),
        ("X".repeat(4096), Malformed::Method),
        (format!("POST / HTTP/1.1\r\n{HOST}Expect: 200-ok\r\n\r\n"), Malformed::Expectation),
        (
            format!("POST / HTTP/1.1\r\n{HOST}Expect: 100-continue\r\nExpect: x\r\n\r\n"),
            Malformed::Expectation,
        ),
    ]);
}

#[test]
fn what_only_looks_dangerous_is_read() {
    for (head, framing) in [
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Framing::None),
        ("GET / HTTP/1.0\r\n\r\n", Framing::None),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", Framing::None),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Framing::None),
        ("GET http://a HTTP/1.1\r\nHost: A:80\r\n\r\n", Framing::None),
        ("GET HTTP://a?x=1 HTTP/1.1\r\nHost: a\r\n\r\n", Framing::None),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", Framing::None),
        ("GET / HTTP/1.1\r\nHost: a\r\nA:\t b\u{e9} \t\r\nB:\r\n\r\n", Framing::None),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 003\r\n\r\nabc", Framing::Length(3)),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n", Framing::Chunked),
        ("M-SEARCH /a|b{c} HTTP/1.1\r\nHost: a\r\n\r\n", Framing::None),
    ] {
        let read = request(&[head.as_bytes()]).unwrap().unwrap_or_else(|| panic!("{head:?} is not whole"));
        assert_eq!((read.head.framing, read.rest.len()), (framing, 0), "{head:?}");
    }
}

#[test]
fn a_head_says_whether_its_connection_goes_on() {
    for (version, connection, expected) in [
        ("1.1", "", true),
        ("1.1", "Connection: x, Close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let head = format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n");
        assert_eq!(request(&[head.as_bytes()]).unwrap().unwrap().head.keep_alive, expected, "{head:?}");
    }
}

#[test]
fn responses_are_held_to_the_same() {
    for (head, expected) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", Malformed::ContentLength),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\na",
            Malformed::LengthAndEncoding,
        ),
        (
            "HTTP/1.1 204 No\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\na",
            Malformed::LengthAndEncoding,
        ),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Malformed::TransferEncoding),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", Malformed::UnknownEncoding),
        ("HTTP/1.1 200 OK\nContent-Length: 1\n\na", Malformed::LineEnd),
        ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", Malformed::Folding),
        ("HTTP/1.1 200 O\0K\r\n\r\n", Malformed::StartLine),
        ("HTTP/1.1 20 OK\r\n\r\n", Malformed::StartLine),
        ("HTTP/1.1  200 OK\r\n\r\n", Malformed::StartLine),
        ("HTTP/2.0 200 OK\r\n\r\n", Malformed::Version),
        ("ICY 200 OK\r\n\r\n", Malformed::StartLine),
        ("<html>", Malformed::StartLine),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;\n", Malformed::Chunk),
    ] {
        assert_eq!(kind(response(&[head.as_bytes()], &Method::GET)), Some(expected), "{head:?}");
    }
}

#[test]
fn where_a_response_ends_depends_on_what_was_asked() {
    for (method, head, framing, keep_alive) in [
        (Method::GET, "HTTP/1.1 200\r\nContent-Length: 3\r\n\r\nabc", Framing::Length(3), true),
        (Method::GET, "HTTP/1.1 200 OK\r\n\r\nabc", Framing::UntilClose, false),
        (Method::GET, "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", Framing::Length(3), false),
        (Method::HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", Framing::None, true),
        (Method::HEAD, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Framing::None, true),
        (Method::GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", Framing::None, true),
        (Method::GET, "HTTP/1.1 204 No Content\r\n\r\n", Framing::None, true),
        (Method::CONNECT, "HTTP/1.1 200 OK\r\n\r\n", Framing::None, true),
        (Method::GET, "HTTP/1.1 100 Continue\r\n\r\n", Framing::None, true),
    ] {
        let read = response(&[head.as_bytes()], &method).unwrap().unwrap();
        assert_eq!((read.head.framing, read.head.keep_alive), (framing, keep_alive), "{method} {head:?}");
    }
}
