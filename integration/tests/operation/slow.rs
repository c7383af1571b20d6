//! Slow and broken clients: they get an answer or nothing, and cost nobody else a call.

use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weft_integration::{Load, MeshPlan, eventually, get, http2};

use crate::world::{Shop, a_while, none_failed, shop_with};

async fn served(more: &str) -> Result<(Shop, Load)> {
    let shop = shop_with(MeshPlan::default(), &["v1"], "http1", more).await?;
    let load = shop.load();
    Ok((shop, load))
}

#[tokio::test]
async fn half_a_request_head_blocks_nobody() -> Result<()> {
    let (shop, load) = served("").await?;
    let mut half = Vec::new();
    for head in ["G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nhost: a\r\nx: "].into_iter().cycle().take(60) {
        let mut stream = TcpStream::connect(shop.web.upstream("api")).await?;
        stream.write_all(head.as_bytes()).await?;
        half.push(stream);
    }
    none_failed(load, "half heads").await?;
    // None was taken for a request, and each is let go with its client.
    drop(half);
    eventually("they are gone", async || {
        let open = shop.web.metric("weft_outbound_connections", &[]).await?;
        anyhow::ensure!(open == 0.0, "{open} are open");
        Ok(Some(()))
    })
    .await
}

#[tokio::test]
async fn five_hundred_idle_connections_cost_no_call() -> Result<()> {
    let (shop, load) = served("").await?;
    let mut idle = Vec::new();
    for _ in 0..500 {
        idle.push(TcpStream::connect(shop.web.upstream("api")).await?);
    }
    a_while().await;
    assert!(shop.web.metric("weft_outbound_connections", &[]).await? >= 500.0);
    get(shop.web.upstream("api"), "/").await?;
    drop(idle);
    eventually("they are gone", async || {
        let open = shop.web.metric("weft_outbound_connections", &[]).await?;
        anyhow::ensure!(open < 50.0, "{open} are open");
        Ok(Some(()))
    })
    .await?;
    none_failed(load, "500 idle connections").await?;
    Ok(())
}

#[tokio::test]
async fn clients_that_reset_their_connection_cost_nobody_else() -> Result<()> {
    let (shop, load) = served("").await?;
    for n in 0..100 {
        let mut stream = TcpStream::connect(shop.web.upstream("api")).await?;
        let request: &[u8] = match n % 3 {
            0 => b"GET /slow/300 HTTP/1.1\r\nhost: a\r\n\r\n",
            1 => b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\nhalf",
            _ => b"GET / HT",
        };
        stream.write_all(request).await?;
        tokio::time::sleep(Duration::from_millis(5)).await;
        // A linger of zero makes the close a reset.
        stream.set_zero_linger()?;
    }
    a_while().await;
    none_failed(load, "resets").await?;
    eventually("nothing is left in progress", async || {
        let active = shop.web.metric("weft_active", &[]).await?;
        anyhow::ensure!(active == 0.0, "{active} in progress");
        Ok(Some(()))
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_head_of_a_megabyte_is_refused_in_both_versions_of_http() -> Result<()> {
    let (shop, load) = served("").await?;
    let mut stream = TcpStream::connect(shop.web.upstream("api")).await?;
    let head = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(1 << 20));
    // The proxy may stop reading before all is written.
    let _ = stream.write_all(head.as_bytes()).await;
    let mut said = [0; 12];
    stream.read_exact(&mut said).await?;
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said == "HTTP/1.1 431" || said == "HTTP/1.1 400", "{said}");
    none_failed(load, "large heads").await?;

    let shop = shop_with(MeshPlan::default(), &["v1"], "http2", "").await?;
    let load = shop.load();
    let request = hyper::Request::get("http://api/")
        .header("x", "x".repeat(1 << 20))
        .body(http_body_util::Full::default())?;
    match http2(shop.web.upstream("api"), request).await {
        Ok(response) => assert!(matches!(response.status().as_u16(), 400 | 431), "{}", response.status()),
        Err(error) => println!("HTTP/2: {error:#}"),
    }
    none_failed(load, "large HTTP/2 heads").await?;
    Ok(())
}
