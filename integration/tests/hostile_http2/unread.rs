//! Streams that a caller opens and does not read: they hold their own part of the windows and nobody else's.

use anyhow::{Result, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use weft_integration::http2;

use crate::wire::{END_STREAM, Outcome, Raw, SETTINGS, frame, head, hello};
use crate::world::World;

/// More than sixteen, at which the windows of old ended, and fewer than the streams at which a second connection is
/// opened (80).
const UNREAD: u32 = 60;

#[tokio::test]
async fn streams_that_nobody_reads_do_not_stop_the_others_of_their_connection() -> Result<()> {
    let world = World::start("").await?;
    let address = world.web.upstream("api2");
    let big = [(":method", "GET"), (":scheme", "http"), (":authority", "api2"), (":path", "/big")];
    let mut raw = Raw::plain(address).await?;
    raw.send(&hello(true)).await?;
    raw.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])).await?;
    for n in 0..UNREAD {
        raw.send(&head(2 * n + 1, &big, END_STREAM)).await?;
    }
    for n in 0..UNREAD {
        ensure!(raw.outcome_of(2 * n + 1).await? == Outcome::Status(200), "stream {n} is answered");
    }
    // Whole bodies through the same two connections (between the proxies, and to the application).
    for n in 0..5 {
        let request = Request::get("http://api2/big").body(Full::<Bytes>::default())?;
        let answer = async {
            let response = http2(address, request).await?;
            anyhow::Ok(http_body_util::BodyExt::collect(response.into_body()).await?.to_bytes().len())
        };
        let length = tokio::time::timeout(std::time::Duration::from_secs(10), answer).await;
        let length =
            length.map_err(|_| anyhow::anyhow!("request {n} is stalled by the streams of another"))??;
        ensure!(length == 2 << 20, "{length} bytes");
    }
    let connections = world.web.metric("weft_upstream_connections", &[]).await?;
    // One to each callee's proxy: `api` had the first good request.
    ensure!(connections == 2.0, "{connections} connections: the test does not show what it says");
    drop(raw);
    Ok(())
}
