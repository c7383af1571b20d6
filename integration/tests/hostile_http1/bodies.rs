//! Chunks and trailers.

use anyhow::{Result, ensure};

use crate::row::{Row, broken, passed, run};
use crate::world::World;

fn chunked(body: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
}

fn rows() -> Vec<Row> {
    let long = format!("2;{}\r\nab\r\n0\r\n\r\n", "x".repeat(10_000));
    let head = "POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    vec![
        broken("a size that is no number", chunked("xy\r\nab\r\n0\r\n\r\n"), "chunk"),
        broken("a size with a plus", chunked("+2\r\nab\r\n0\r\n\r\n"), "chunk"),
        broken("a size with 0x", chunked("0x2\r\nab\r\n0\r\n\r\n"), "chunk"),
        broken("a size with a space behind", chunked("2 \r\nab\r\n0\r\n\r\n"), "chunk"),
        broken("a size with a space before", chunked(" 2\r\nab\r\n0\r\n\r\n"), "chunk"),
        broken("a size beyond 64 bits", chunked("10000000000000002\r\nab\r\n0\r\n\r\n"), "chunk"),
        broken("no size", chunked("\r\nab\r\n0\r\n\r\n"), "chunk"),
        broken("a size's line that ends in LF", chunked("2\nab\r\n0\r\n\r\n"), "chunk"),
        broken("data that ends in LF", chunked("2\r\nab\n0\r\n\r\n"), "chunk"),
        broken("data without an end", chunked("2\r\nab0\r\n\r\n"), "chunk"),
        broken("data longer than its size", chunked("2\r\nabc\r\n0\r\n\r\n"), "chunk"),
        broken("an extension with an LF", chunked("2;a\nb\r\nab\r\n0\r\n\r\n"), "chunk"),
        broken("an extension without end", chunked(&long), "chunk"),
        broken("a trailer that is none", chunked("2\r\nab\r\n0\r\nA : b\r\n\r\n"), "field_name"),
        broken("a folded trailer", chunked("2\r\nab\r\n0\r\nA: b\r\n c\r\n\r\n"), "folding"),
        broken(
            "trailers without end",
            chunked(&format!("0\r\nA: {}\r\n\r\n", "b".repeat(70_000))),
            "trailers",
        ),
        passed(
            "an extension",
            chunked("2;a=\"b c\"\r\nab\r\n0;x\r\n\r\n"),
            &format!("{head}2\r\nab\r\n0\r\n\r\n"),
        ),
        passed("leading zeros", chunked("0002\r\nab\r\n000\r\n\r\n"), &format!("{head}2\r\nab\r\n0\r\n\r\n")),
        passed(
            "trailers that smuggle fields",
            chunked(
                "2\r\nab\r\n0\r\nContent-Length: 9\r\nHost: evil\r\nAuthorization: x\r\nweft-port: 1\r\nX-Forwarded-For: 1\r\nX-Sum: 7\r\n\r\n",
            ),
            &format!("{head}2\r\nab\r\n0\r\nx-sum: 7\r\n\r\n"),
        ),
    ]
}

#[tokio::test]
async fn no_body_has_two_ends() -> Result<()> {
    run(&rows()).await
}

#[tokio::test]
async fn requests_in_one_segment_are_answered_one_after_the_other() -> Result<()> {
    let world = World::start("").await?;
    for (door, address) in world.doors() {
        world.recorder.forget();
        let three = "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nabGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGARBAGE\r\n\r\n";
        let answer = world.send(address, three.as_bytes(), 1).await?;
        let statuses: Vec<&str> =
            answer.split("HTTP/1.1 ").skip(1).filter_map(|part| part.get(..3)).collect();
        ensure!(statuses == ["200", "200", "400"], "{door}: {answer:?}");
        let seen = world.recorder.seen();
        ensure!(
            seen.contains("POST /1") && seen.contains("GET /2") && !seen.contains("GARBAGE"),
            "{door}: {seen:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn an_upgrade_with_a_body_is_an_ordinary_request() -> Result<()> {
    let world = World::start("").await?;
    let (_, address) = world.doors()[0];
    world.recorder.forget();
    let sent = "POST /x HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nab";
    let answer = world.send(address, sent.as_bytes(), 1).await?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
    let seen = world.recorder.seen();
    ensure!(!seen.contains("upgrade") && seen.ends_with("\r\n\r\nab"), "{seen:?}");
    Ok(())
}
