//! Clients that take their time: each part of a message has its clock, on the first request and on later ones.

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weft_integration::eventually;

use crate::world::World;

const SHORT: &str = "[timeouts]\nheader_read = \"200ms\"\nidle = \"300ms\"\n";
const GOOD: &[u8] = b"GET /good HTTP/1.1\r\nhost: a\r\n\r\n";

/// Sends `before` and then `slow`, and reads to the end, without ever ending itself.
async fn hold(address: std::net::SocketAddr, before: &[u8], slow: &[u8]) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(before).await?;
    let mut answer = vec![0; if before.is_empty() { 0 } else { 12 }];
    stream.read_exact(&mut answer).await?;
    stream.write_all(slow).await?;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await?;
    Ok(String::from_utf8_lossy(&rest).into_owned())
}

#[tokio::test]
async fn a_head_and_a_body_have_their_time_on_every_request_of_a_connection() -> Result<()> {
    let world = World::start(SHORT).await?;
    for (door, address) in world.doors() {
        for before in [&b""[..], GOOD] {
            for (slow, status) in [
                (&b"GET /x HTTP/1.1\r\nhost: a\r\nx: "[..], "HTTP/1.1 408"),
                (b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf", "HTTP/1.1 408"),
                (
                    b"POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf",
                    "HTTP/1.1 408",
                ),
            ] {
                let answer = hold(address, before, slow).await?;
                ensure!(answer.contains(status), "{door}: {answer:?}");
            }
        }
    }
    let counted = world.malformed("weft_malformed_requests_total").await?;
    ensure!(counted.get("slow_head") == Some(&4) && counted.get("slow_body") == Some(&8), "{counted:?}");
    Ok(())
}

#[tokio::test]
async fn a_client_that_does_not_read_is_let_go() -> Result<()> {
    let world = World::start(SHORT).await?;
    let body = vec![b'x'; 32 << 20];
    let answer =
        [format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat();
    world.recorder.answers(Some((&answer, false)));
    let (_, address) = world.doors()[0];
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(GOOD).await?;
    eventually("its request is under way", async || {
        Ok((world.web.metric("weft_active", &[]).await? > 0.0).then_some(()))
    })
    .await?;
    eventually("it is let go", async || {
        let (active, open) = (
            world.web.metric("weft_active", &[]).await?,
            world.web.metric("weft_outbound_connections", &[]).await?,
        );
        ensure!(active == 0.0 && open == 0.0, "{active} requests, {open} connections");
        Ok(Some(()))
    })
    .await?;
    drop(stream);
    Ok(())
}
