//! SIGTERM: what runs is finished, what does not finish is cut at the deadline and said.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weft_integration::{MeshPlan, eventually, get, http1};

use crate::world::{a_while, none_failed, shop, shop_with};

#[tokio::test]
async fn a_control_plane_that_is_asked_to_stop_ends_at_once_and_costs_no_call() -> Result<()> {
    let mut shop = shop().await?;
    let load = shop.load();
    a_while().await;
    let start = Instant::now();
    let status = shop.mesh.control()?.stop(Duration::from_secs(10)).await?;
    let took = start.elapsed();
    println!("the control plane ended after {took:?}");
    assert!(status.success(), "{status}: {}", shop.mesh.control()?.log());
    assert!(took < Duration::from_secs(3), "it took {took:?}");
    a_while().await;
    shop.mesh.start_control().await?;
    shop.mesh.in_sync(3).await?;
    none_failed(load, "control plane stopped and started").await?;
    Ok(())
}

#[tokio::test]
async fn a_slow_request_is_finished_by_the_callees_and_by_the_callers_proxy() -> Result<()> {
    tokio::try_join!(finishes(true), finishes(false))?;
    Ok(())
}

/// The callee's proxy is stopped, or the caller's.
async fn finishes(callee: bool) -> Result<()> {
    let mut shop = shop_with(MeshPlan::default(), &["v1"], "http1", "").await?;
    let address = shop.web.upstream("api");
    let slow = tokio::spawn(async move { get(address, "/slow/1500").await });
    a_while().await;
    let proxy = if callee { shop.api.first_mut().context("a proxy")? } else { &mut shop.web };
    let start = Instant::now();
    let status = proxy.process.stop(Duration::from_secs(10)).await?;
    println!("callee's: {callee}: ended after {:?}", start.elapsed());
    assert!(status.success(), "{status}: {}", proxy.process.log());
    assert!(start.elapsed() > Duration::from_millis(300), "it did not wait for the request");
    assert_eq!(slow.await??.path, "/slow/1500");
    Ok(())
}

#[tokio::test]
async fn half_a_head_holds_up_neither_the_end_nor_a_connection() -> Result<()> {
    let settings = "[timeouts]\nheader_read = \"1s\"\n";
    let mut shop = shop_with(MeshPlan::default(), &["v1"], "http1", settings).await?;
    let half = b"GET / HTTP/1.1\r\nhost: a\r\nx: ";
    let mut forgotten = TcpStream::connect(shop.web.upstream("api")).await?;
    forgotten.write_all(half).await?;
    let ended = tokio::time::timeout(Duration::from_secs(5), forgotten.read(&mut [0; 64])).await;
    assert!(ended.is_ok(), "half a first head is kept although timeouts.header_read is over");

    // After a whole request the connection may rest, so the second half head is only cut by the drain.
    let mut kept = TcpStream::connect(shop.web.upstream("api")).await?;
    kept.write_all(b"GET /status/200 HTTP/1.1\r\nhost: a\r\n\r\n").await?;
    let read = kept.read(&mut [0; 4096]).await?;
    assert!(read > 0, "no answer");
    kept.write_all(half).await?;
    let start = Instant::now();
    let status = shop.web.process.stop(Duration::from_secs(20)).await?;
    assert!(
        status.success() && start.elapsed() < Duration::from_secs(6),
        "{status} after {:?}",
        start.elapsed()
    );
    Ok(())
}

#[tokio::test]
async fn what_runs_longer_than_the_deadline_is_cut_and_flagged() -> Result<()> {
    tokio::try_join!(cuts(true), cuts(false))?;
    Ok(())
}

/// The callee's proxy is stopped, or the caller's; the request takes far longer than the deadline.
async fn cuts(callee: bool) -> Result<()> {
    let more = "[drain]\ngrace = \"100ms\"\ndeadline = \"1s\"\n";
    let mut shop = shop_with(MeshPlan::default(), &["v1"], "http1", more).await?;
    let address = shop.web.upstream("api");
    let slow = tokio::spawn(async move {
        let request = Request::get("/slow/20000").header("host", "t").body(Full::<Bytes>::default())?;
        anyhow::Ok(http1(address, request).await?.status())
    });
    a_while().await;
    let proxy = if callee { shop.api.first_mut().context("a proxy")? } else { &mut shop.web };
    let start = Instant::now();
    proxy.process.signal(Signal::TERM)?;
    let status = eventually("it ends", async || Ok(proxy.process.ended())).await?;
    let took = start.elapsed();
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(5), "it took {took:?}");
    assert_eq!(status.code(), Some(0), "{status}");
    let log = proxy.process.log();
    assert!(log.contains("the drain deadline is over"), "{log}");
    let flags: Vec<String> =
        proxy.access_log().iter().map(|line| line["response_flags"].to_string()).collect();
    assert!(flags.iter().any(|flag| flag.contains("LH")), "callee's: {callee}: {flags:?}");
    // The caller hears of it: a failure of the mesh or a closed connection, never a hang and never a 200.
    match tokio::time::timeout(Duration::from_secs(5), slow).await?? {
        Ok(status) => {
            assert!(status.is_server_error() && status != StatusCode::INTERNAL_SERVER_ERROR, "{status}")
        }
        Err(error) => println!("callee's: {callee}: the caller saw: {error:#}"),
    }
    Ok(())
}
