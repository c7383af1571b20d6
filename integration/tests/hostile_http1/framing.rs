//! Where a request ends: lengths and codings that readers disagree on.

use anyhow::Result;

use crate::row::{Row, passed, refused, run};

fn post(fields: &str, body: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
}

fn lengths() -> Vec<Row> {
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    vec![
        refused(
            "CL then TE",
            post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            400,
            "length_and_encoding",
        ),
        refused(
            "TE then CL",
            post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", &format!("0\r\n\r\n{smuggled}")),
            400,
            "length_and_encoding",
        ),
        refused(
            "CL with a TE that is none",
            post("Content-Length: 4\r\nTransfer-Encoding: x\r\n", "abcd"),
            400,
            "length_and_encoding",
        ),
        refused(
            "two CL that differ",
            post(&format!("Content-Length: 0\r\nContent-Length: {}\r\n", smuggled.len()), smuggled),
            400,
            "content_length",
        ),
        refused(
            "two equal CL",
            post("Content-Length: 2\r\nContent-Length: 2\r\n", "ab"),
            400,
            "content_length",
        ),
        refused("CL as a list", post("Content-Length: 2, 2\r\n", "ab"), 400, "content_length"),
        refused("CL with a plus", post("Content-Length: +2\r\n", "ab"), 400, "content_length"),
        refused("CL below nothing", post("Content-Length: -1\r\n", "ab"), 400, "content_length"),
        refused("CL in hexadecimal", post("Content-Length: 0x2\r\n", "ab"), 400, "content_length"),
        refused("CL with a letter", post("Content-Length: 2a\r\n", "ab"), 400, "content_length"),
    ]
}

fn odd_lengths() -> Vec<Row> {
    vec![
        refused("CL of nothing", post("Content-Length:\r\n", "ab"), 400, "content_length"),
        refused(
            "CL beyond 64 bits",
            post("Content-Length: 18446744073709551618\r\n", "ab"),
            400,
            "content_length",
        ),
        refused("CL with a space within", post("Content-Length: 1 2\r\n", "ab"), 400, "content_length"),
        passed(
            "CL with leading zeros",
            post("Content-Length: 002\r\n", "ab"),
            "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nab",
        ),
        passed(
            "a GET with a body",
            "GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab",
            "GET /x HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nab",
        ),
        passed(
            "a POST without a body",
            "POST /x HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
        ),
    ]
}

fn codings() -> Vec<Row> {
    let chunks = "2\r\nab\r\n0\r\n\r\n";
    vec![
        refused(
            "chunked twice",
            post("Transfer-Encoding: chunked, chunked\r\n", chunks),
            400,
            "transfer_encoding",
        ),
        refused(
            "chunked in two lines",
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", chunks),
            400,
            "transfer_encoding",
        ),
        refused(
            "chunked before another",
            post("Transfer-Encoding: chunked, gzip\r\n", chunks),
            400,
            "transfer_encoding",
        ),
        refused(
            "chunked with a parameter",
            post("Transfer-Encoding: chunked;a=b\r\n", chunks),
            400,
            "transfer_encoding",
        ),
        refused(
            "an empty coding",
            post("Transfer-Encoding: , chunked\r\n", chunks),
            400,
            "transfer_encoding",
        ),
        refused("no coding", post("Transfer-Encoding:\r\n", chunks), 400, "transfer_encoding"),
        refused(
            "a quoted coding",
            post("Transfer-Encoding: \"chunked\"\r\n", chunks),
            400,
            "transfer_encoding",
        ),
        refused(
            "a coding with a vertical tab",
            post("Transfer-Encoding: \x0bchunked\r\n", chunks),
            400,
            "field_value",
        ),
    ]
}

fn unknown_codings() -> Vec<Row> {
    let chunks = "2\r\nab\r\n0\r\n\r\n";
    vec![
        refused(
            "another coding",
            post("Transfer-Encoding: gzip, chunked\r\n", chunks),
            501,
            "unknown_encoding",
        ),
        refused("identity", post("Transfer-Encoding: identity\r\n", "ab"), 501, "unknown_encoding"),
        refused("nearly chunked", post("Transfer-Encoding: xchunked\r\n", chunks), 501, "unknown_encoding"),
        refused(
            "a coding in HTTP/1.0",
            format!("POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"),
            400,
            "transfer_encoding",
        ),
        refused(
            "a TRACE with a body",
            "TRACE /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab",
            400,
            "body",
        ),
        refused(
            "a CONNECT with a body",
            "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nContent-Length: 2\r\n\r\nab",
            400,
            "body",
        ),
        passed(
            "chunks in capitals",
            post("Transfer-Encoding: Chunked\r\n", chunks),
            "POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        ),
        refused(
            "an expectation of another kind",
            post("Content-Length: 2\r\nExpect: 200-ok\r\n", "ab"),
            417,
            "expectation",
        ),
    ]
}

#[tokio::test]
async fn no_request_has_two_ends() -> Result<()> {
    run(&[lengths(), odd_lengths()].concat()).await
}

#[tokio::test]
async fn no_request_has_a_coding_that_readers_disagree_on() -> Result<()> {
    run(&[codings(), unknown_codings()].concat()).await
}
