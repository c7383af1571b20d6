//! Request lines, targets, and the one form of a path.

use anyhow::Result;

use crate::row::{Row, passed, refused, run};

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
}

fn lines() -> Vec<Row> {
    let host = "Host: a\r\n\r\n";
    vec![
        refused("no HTTP", "hello there, how are you?\r\n\r\n", 400, "start_line"),
        refused(
            "a TLS hello",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abcdefghijklmnop",
            400,
            "start_line",
        ),
        refused("no version", format!("GET /x\r\n{host}"), 400, "start_line"),
        refused("two spaces", format!("GET  /x HTTP/1.1\r\n{host}"), 400, "start_line"),
        refused("a space behind", format!("GET /x HTTP/1.1 \r\n{host}"), 400, "start_line"),
        refused("a method with a colon", format!("GE:T /x HTTP/1.1\r\n{host}"), 400, "start_line"),
        refused("a version in lower case", format!("GET /x http/1.1\r\n{host}"), 400, "start_line"),
        refused("empty lines before", format!("\r\n\r\n\r\nGET /x HTTP/1.1\r\n{host}"), 400, "start_line"),
        refused("HTTP/1.2", format!("GET /x HTTP/1.2\r\n{host}"), 505, "version"),
        refused("HTTP/3.0", format!("GET /x HTTP/3.0\r\n{host}"), 505, "version"),
        refused(
            "a method of 100 letters",
            format!("{} /x HTTP/1.1\r\n{host}", "A".repeat(100)),
            501,
            "method",
        ),
        refused("a method without end", "A".repeat(70_000), 501, "method"),
        refused("a target of 40 KB", get(&format!("/{}", "a".repeat(40_000))), 414, "target_size"),
        refused("a target without end", format!("GET /{}", "a".repeat(70_000)), 414, "target_size"),
    ]
}

fn targets() -> Vec<Row> {
    let host = "Host: a\r\n\r\n";
    vec![
        refused("a space in the target", format!("GET /x y HTTP/1.1\r\n{host}"), 400, "start_line"),
        refused("a tab in the target", get("/x\ty"), 400, "target"),
        refused("a NUL in the target", get("/x\0y"), 400, "target"),
        refused("a fragment", get("/x#y"), 400, "target"),
        refused("a backslash", get("/x\\y"), 400, "target"),
        refused("not ASCII", get("/\u{e9}"), 400, "target"),
        refused("no form", get("x"), 400, "target"),
        refused("an asterisk with GET", get("*"), 400, "target"),
        refused("an authority with GET", get("a:80"), 400, "target"),
        refused("another scheme", get("ftp://a/x"), 400, "target"),
        refused("a user in the target", get("http://u:p@a/x"), 400, "target"),
        refused("a CONNECT to a path", "CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target"),
        passed(
            "an empty line before",
            "\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /x HTTP/1.1\r\nhost: a\r\n\r\n",
        ),
        passed(
            "HTTP/1.0 with a Host",
            "GET /x HTTP/1.0\r\nHost: a\r\n\r\n",
            "GET /x HTTP/1.1\r\nhost: a\r\n\r\n",
        ),
        passed(
            "OPTIONS of all",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n",
        ),
        passed(
            "a method that nobody knows",
            "BREW /x HTTP/1.1\r\nHost: a\r\n\r\n",
            "BREW /x HTTP/1.1\r\nhost: a\r\n\r\n",
        ),
    ]
}

fn paths() -> Vec<Row> {
    let seen = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
    vec![
        passed("slashes", get("//a///b/"), &seen("/a/b/")),
        passed("dots", get("/a/./b/../c"), &seen("/a/c")),
        passed("encoded dots", get("/a/%2e%2E/%2e/b"), &seen("/b")),
        passed("encoded letters", get("/%61dmin"), &seen("/admin")),
        passed("lower-case escapes", get("/%2f%5c%c3%a9"), &seen("/%2F%5C%C3%A9")),
        passed("a query as it is", get("/a?x=//../%41&y=%2e"), &seen("/a?x=//../%41&y=%2e")),
        passed("an encoded percent stays", get("/%2541"), &seen("/%2541")),
        refused("out of the root", get("/../etc/passwd"), 400, "path"),
        refused("out of the root, encoded", get("/a/%2e%2e/%2e%2e/b"), 400, "path"),
        refused("half an escape", get("/a%4"), 400, "path"),
        refused("an escape that is none", get("/a%zz"), 400, "path"),
        refused("an encoded NUL", get("/a%00b"), 400, "path"),
    ]
}

#[tokio::test]
async fn a_request_line_is_one() -> Result<()> {
    run(&[lines(), targets()].concat()).await
}

#[tokio::test]
async fn a_path_has_one_form() -> Result<()> {
    run(&paths()).await
}
