//! What an endpoint sends: refused with 502 where it is ambiguous, and never mixed up with the next answer.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use weft_integration::eventually;

use crate::world::World;

/// What an endpoint sends, and what its caller gets.
struct Row {
    name: &'static str,
    method: &'static str,
    sent: String,
    close: bool,
    status: u16,
    /// What the caller's bytes end with.
    end: &'static str,
    kind: Option<&'static str>,
}

fn refused(name: &'static str, sent: impl Into<String>, kind: &'static str) -> Row {
    Row { name, method: "GET", sent: sent.into(), close: false, status: 502, end: "\n", kind: Some(kind) }
}

fn passed(
    name: &'static str,
    method: &'static str,
    sent: impl Into<String>,
    status: u16,
    end: &'static str,
) -> Row {
    Row { name, method, sent: sent.into(), close: false, status, end, kind: None }
}

impl Row {
    fn closing(self) -> Self {
        Self { close: true, ..self }
    }
}

fn head(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}")
}

fn bad() -> Vec<Row> {
    vec![
        refused(
            "CL and TE",
            head("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            "length_and_encoding",
        ),
        refused("two CL", head("Content-Length: 2\r\nContent-Length: 2\r\n", "ok"), "content_length"),
        refused("CL that is none", head("Content-Length: two\r\n", "ok"), "content_length"),
        refused(
            "chunked twice",
            head("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"),
            "transfer_encoding",
        ),
        refused("another coding", head("Transfer-Encoding: gzip\r\n", "ok"), "unknown_encoding"),
        refused(
            "a coding in HTTP/1.0",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "transfer_encoding",
        ),
        refused("lines that end in LF", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "line_end"),
        refused("a folded field", head("A: b\r\n c\r\nContent-Length: 2\r\n", "ok"), "folding"),
        refused("a NUL in a value", head("A: b\0\r\nContent-Length: 2\r\n", "ok"), "field_value"),
        refused("a space before a colon", head("Content-Length : 2\r\n", "ok"), "field_name"),
        refused("no status line", "<html>hello</html>\r\n\r\n", "start_line"),
        refused("a status of two digits", "HTTP/1.1 20 OK\r\n\r\n", "start_line"),
        refused("another version", "HTTP/2.0 200 OK\r\n\r\n", "version"),
        refused("a head of 100 KB", head(&format!("A: {}\r\n", "b".repeat(100_000)), ""), "head_size"),
        refused(
            "a chunk that is none",
            head("Transfer-Encoding: chunked\r\n", "zz\r\nok\r\n0\r\n\r\n"),
            "chunk",
        ),
        refused(
            "a switch that nobody asked for",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
            "start_line",
        ),
        refused("interim responses without end", "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(50), "start_line"),
    ]
}

fn good() -> Vec<Row> {
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    vec![
        passed(
            "a second response behind the first",
            "GET",
            head("Content-Length: 2\r\n", &format!("ok{evil}")),
            200,
            "\r\n\r\nok",
        ),
        passed(
            "a second response behind chunks",
            "GET",
            head("Transfer-Encoding: chunked\r\n", &format!("2\r\nok\r\n0\r\n\r\n{evil}")),
            200,
            "2\r\nok\r\n0\r\n\r\n",
        ),
        passed("a body for HEAD", "HEAD", head("Content-Length: 4\r\n", "evil"), 200, "\r\n\r\n"),
        passed("a body of a 204", "GET", format!("HTTP/1.1 204 No Content\r\n\r\n{evil}"), 204, "\r\n\r\n"),
        passed(
            "a body of a 304",
            "GET",
            format!("HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n{evil}"),
            304,
            "\r\n\r\n",
        ),
        passed(
            "interim responses",
            "GET",
            format!("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n{}", head("Content-Length: 2\r\n", "ok")),
            200,
            "ok",
        ),
    ]
}

fn ended() -> Vec<Row> {
    vec![
        passed(
            "a body that ends with the connection",
            "GET",
            "HTTP/1.0 200 OK\r\n\r\nold",
            200,
            "3\r\nold\r\n0\r\n\r\n",
        )
        .closing(),
        passed(
            "trailers that smuggle fields",
            "GET",
            head("Transfer-Encoding: chunked\r\n", "2\r\nok\r\n0\r\nSet-Cookie: a=b\r\n\r\n"),
            200,
            "2\r\nok\r\n0\r\n\r\n",
        ),
        // Not whole: the caller can tell, since its own end is missing.
        passed(
            "a body shorter than its length",
            "GET",
            head("Content-Length: 9\r\n", "short"),
            200,
            "\r\n\r\nshort",
        )
        .closing(),
        passed(
            "chunks without their end",
            "GET",
            head("Transfer-Encoding: chunked\r\n", "5\r\nshort\r\n"),
            200,
            "5\r\nshort\r\n",
        )
        .closing(),
        passed("nothing at all", "POST", "", 502, "\n").closing(),
    ]
}

async fn run(rows: &[Row]) -> Result<()> {
    let world = World::start("").await?;
    let mut counted: BTreeMap<String, u32> = BTreeMap::new();
    for row in rows {
        for (door, address) in world.doors() {
            world.recorder.answers(Some((row.sent.as_bytes(), row.close)));
            let request = format!("{} /x HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", row.method);
            let answer = world.send(address, request.as_bytes(), 1).await?;
            let what = || format!("{} ({door}): {answer:?}", row.name);
            let status = answer.get(9..12).and_then(|status| status.parse::<u16>().ok()).unwrap_or(0);
            ensure!(status == row.status, what());
            ensure!(answer.ends_with(row.end), what());
            ensure!(!answer.contains("evil"), what());
            if let Some(kind) = row.kind {
                *counted.entry(kind.to_owned()).or_default() += 1;
            }
            // The next answers are the next requests' own.
            world.recorder.answers(None);
            for _ in 0..3 {
                let next = world.send(address, b"GET /good HTTP/1.1\r\nhost: a\r\n\r\n", 1).await?;
                ensure!(next.ends_with("\r\n\r\nok"), "{}: then {next:?}", row.name);
            }
        }
    }
    let real = eventually("refusals are counted", async || {
        let real = world.malformed("weft_malformed_responses_total").await?;
        Ok((real == counted).then_some(real))
    })
    .await;
    real.map(drop).with_context(|| format!("not {counted:?}"))
}

#[tokio::test]
async fn an_ambiguous_response_becomes_a_502() -> Result<()> {
    run(&bad()).await
}

#[tokio::test]
async fn a_response_ends_where_it_ends_and_the_next_is_another() -> Result<()> {
    run(&good()).await?;
    run(&ended()).await
}
