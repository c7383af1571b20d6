//! Fields and lines that are none, or that some reader takes for something else.

use anyhow::Result;

use crate::row::{Row, passed, refused, run};

fn get(fields: &str) -> String {
    format!("GET /x HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

fn rows() -> Vec<Row> {
    vec![
        refused("a folded field", get("A: b\r\n c: d\r\n"), 400, "folding"),
        refused("a field folded by a tab", get("A: b\r\n\tc: d\r\n"), 400, "folding"),
        refused("a space before the first field", "GET /x HTTP/1.1\r\n Host: a\r\n\r\n", 400, "folding"),
        refused("a space before the colon", get("Content-Length : 2\r\n"), 400, "field_name"),
        refused("a tab before the colon", get("Transfer-Encoding\t: chunked\r\n"), 400, "field_name"),
        refused("no colon", get("garbage\r\n"), 400, "field_name"),
        refused("no name", get(": b\r\n"), 400, "field_name"),
        refused("a name with a space", get("A b: c\r\n"), 400, "field_name"),
        refused("a name with a NUL", get("A\0: c\r\n"), 400, "field_name"),
        refused("a name with a slash", get("A/b: c\r\n"), 400, "field_name"),
        refused("a name that is not ASCII", get("\u{e9}: c\r\n"), 400, "field_name"),
        refused("a value with a NUL", get("A: b\0c\r\n"), 400, "field_value"),
        refused("a value with an escape", get("A: b\x1bc\r\n"), 400, "field_value"),
        refused("a value with a DEL", get("A: b\x7fc\r\n"), 400, "field_value"),
        refused("a value with a bare CR", get("A: b\rc: d\r\n"), 400, "line_end"),
        refused("a value with a bare LF", get("A: b\nContent-Length: 5\r\n"), 400, "line_end"),
        refused("CR CR LF", get("A: b\r\r\n"), 400, "line_end"),
        refused("lines that end in LF", "GET /x HTTP/1.1\nHost: a\n\n", 400, "line_end"),
        refused("an empty line that is an LF", "GET /x HTTP/1.1\r\nHost: a\r\n\n", 400, "line_end"),
        refused("more fields than any", get(&"A: b\r\n".repeat(200)), 431, "head_size"),
        refused("a head of 100 KB", get(&format!("A: {}\r\n", "b".repeat(100_000))), 431, "head_size"),
        passed(
            "what only the neighbours may see",
            get(
                "Connection: close, X-Secret\r\nX-Secret: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nweft-port: 1\r\nX-Kept: 2\r\n",
            ),
            "GET /x HTTP/1.1\r\nhost: a\r\nx-kept: 2\r\n\r\n",
        ),
        passed(
            "obsolete text",
            get("A:  b\u{e9} \t\r\nB:\r\n"),
            "GET /x HTTP/1.1\r\nhost: a\r\na: b\u{e9}\r\nb: \r\n\r\n",
        ),
    ]
}

fn hosts() -> Vec<Row> {
    vec![
        refused("no Host", "GET /x HTTP/1.1\r\n\r\n", 400, "host"),
        refused("two Hosts", get("Host: b\r\n"), 400, "host"),
        refused("the same Host twice", get("Host: a\r\n"), 400, "host"),
        refused("a Host with a path", "GET /x HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "host"),
        refused("a Host with a user", "GET /x HTTP/1.1\r\nHost: u@a\r\n\r\n", 400, "host"),
        refused("a Host with a space", "GET /x HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "host"),
        refused("a Host with a port that is none", "GET /x HTTP/1.1\r\nHost: a:x\r\n\r\n", 400, "host"),
        refused("a Host as a list", "GET /x HTTP/1.1\r\nHost: a:80,b\r\n\r\n", 400, "host"),
        refused("absolute form against Host", "GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n", 400, "host"),
        passed(
            "absolute form with its Host",
            "GET http://A:80/x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /x HTTP/1.1\r\nhost: A:80\r\n\r\n",
        ),
    ]
}

#[tokio::test]
async fn no_field_is_read_in_two_ways() -> Result<()> {
    run(&rows()).await
}

#[tokio::test]
async fn a_request_is_for_one_host() -> Result<()> {
    run(&hosts()).await
}
