//! SIGTERM: what runs is finished, what does not finish is cut at the deadline and said.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode};
use rustix::process::Signal;
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
    assert!(start.elapsed() > Duration::from_millis(800), "it did not wait for the request");
    assert_eq!(slow.await??.path, "/slow/1500");
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
