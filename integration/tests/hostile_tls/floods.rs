//! Many connections that do nothing, or half of something: memory stays bounded, good calls are answered, and the admin
//! endpoint and the drain still work. Loopback only; each flood is bounded in number and time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2::handshake;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::version::TLS13;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use weft_integration::{Proxy, eventually, skipped};

use crate::load::GoodCaller;
use crate::wire::{caller, connect};
use crate::world::{World, asked};

/// Connections of the largest flood.
const MANY: usize = 8_000;

/// Whether this process may open as many files; says so if not.
fn may_open(files: u64, what: &str) -> bool {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if most < files {
        skipped(what, &format!("the hard limit on open files is {most}, it needs {files}"));
    }
    most >= files
}

/// Opens `count` connections and sends `bytes` on each.
async fn open(address: SocketAddr, count: usize, bytes: &'static [u8]) -> Result<Vec<TcpStream>> {
    let mut all = Vec::new();
    while all.len() < count {
        let mut batch = JoinSet::new();
        for _ in 0..200.min(count - all.len()) {
            batch.spawn(async move {
                let mut stream = TcpStream::connect(address).await?;
                stream.write_all(bytes).await?;
                anyhow::Ok(stream)
            });
        }
        while let Some(opened) = batch.join_next().await {
            all.push(opened??);
        }
    }
    Ok(all)
}

/// The admin endpoint answers, quickly.
async fn admin_answers(proxy: &Proxy) -> Result<()> {
    let start = Instant::now();
    let (ready, _) = proxy.admin("/ready").await?;
    let (metrics, _) = proxy.admin("/metrics").await?;
    ensure!((ready, metrics) == (200, 200), "ready {ready}, metrics {metrics}");
    ensure!(start.elapsed() < Duration::from_secs(5), "it took {:?}", start.elapsed());
    Ok(())
}

async fn at_least(proxy: &Proxy, gauge: &str, count: usize) -> Result<()> {
    eventually("the connections are open", async || {
        let open = proxy.metric(gauge, &[]).await?;
        ensure!(open >= count as f64, "{gauge} is {open}");
        Ok(Some(()))
    })
    .await
}

async fn memory(proxy: &Proxy) -> Result<f64> {
    // Measured every half second at least.
    tokio::time::sleep(Duration::from_millis(600)).await;
    proxy.metric("weft_memory_bytes", &[]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_thousand_idle_connections_cost_no_good_call_and_the_drain_ends() -> Result<()> {
    if !may_open(2 * MANY as u64 + 1000, "8,000 idle connections") {
        return Ok(());
    }
    let mut world = World::start("").await?;
    let address = world.web.upstream("api");
    let load = GoodCaller::start(address);
    let before = memory(&world.web).await?;
    // A request each, answered: what stays open is a connection at rest.
    let get = b"GET /good HTTP/1.1\r\nhost: api\r\n\r\n";
    let mut idle = open(address, MANY, get).await?;
    for stream in &mut idle {
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut [0; 512])).await??;
        ensure!(read > 0, "an idle connection got no answer to its one request");
    }
    at_least(&world.web, "weft_outbound_connections", MANY).await?;
    let after = memory(&world.web).await?;
    println!(
        "idle plaintext HTTP/1.1 connection: {:.1} KiB of memory",
        (after - before) / 1024.0 / MANY as f64
    );
    ensure!(after - before < (MANY * 48 * 1024) as f64, "{before} became {after}");
    admin_answers(&world.web).await?;
    load.none_failed("8,000 idle connections").await?;
    let start = Instant::now();
    let status = world.web.process.stop(Duration::from_secs(20)).await?;
    ensure!(
        status.success() && start.elapsed() < Duration::from_secs(15),
        "{status} after {:?}",
        start.elapsed()
    );
    println!("drained from {MANY} idle connections in {:?}", start.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_proxies_connections_are_bounded_in_memory() -> Result<()> {
    const PEERS: usize = 500;
    let world = World::start("").await?;
    let shows = world.ca.leaf("spiffe://test.weft/ns/default/sa/web", |_| {})?.certified()?;
    let before = memory(&world.api).await?;
    let (mut idle, mut answering) = (Vec::new(), JoinSet::new());
    while idle.len() < PEERS {
        let config = caller(Some(shows.clone()), &[&TLS13], &[b"weft/1"])?;
        let tls = TokioIo::new(connect(world.api.tunnel, config).await?);
        // Answers pings; who does not is let go.
        let (sender, connection) = handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), tls).await?;
        answering.spawn(connection);
        idle.push(sender);
    }
    at_least(&world.api, "weft_tunnel_connections", PEERS).await?;
    let after = memory(&world.api).await?;
    println!("idle mTLS HTTP/2 connection: {:.1} KiB of memory", (after - before) / 1024.0 / PEERS as f64);
    ensure!(after - before < (PEERS * 96 * 1024) as f64, "{before} became {after}");
    world.good().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_half_handshakes_keeps_no_good_caller_out() -> Result<()> {
    const FLOOD: usize = 3_000;
    if !may_open(FLOOD as u64 + 1000, "a flood of half handshakes") {
        return Ok(());
    }
    // A good caller's proxy has to shake hands again and again meanwhile.
    let web = "[timeouts]\nconnection_age = \"100ms\"\npool_idle = \"100ms\"\n";
    let world = World::with("[limits]\nhandshakes = 200\n", web).await?;
    let load = GoodCaller::start(world.web.upstream("api"));
    let before = memory(&world.api).await?;
    let halves = open(world.api.tunnel, FLOOD, b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03").await?;
    admin_answers(&world.api).await?;
    let after = memory(&world.api).await?;
    let given_up = world.api.metric("weft_limit_refusals_total", &["handshake"]).await?;
    ensure!(given_up >= (FLOOD - 300) as f64, "{given_up} were given up");
    let open = world.api.metric("weft_tunnel_connections", &[]).await?;
    ensure!(open < 300.0, "{open} are open");
    load.none_failed(&format!("{FLOOD} half handshakes, at most 200 at once")).await?;
    println!("memory: {:.1} MiB before, {:.1} MiB after", before / 1048576.0, after / 1048576.0);
    ensure!(after - before < f64::from(16 << 20), "{before} became {after}");
    drop(halves);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_read_nothing_hold_a_bounded_part_of_what_they_asked_for() -> Result<()> {
    const READERS: usize = 60;
    let world = World::start("").await?;
    let address = world.web.upstream("api");
    let load = GoodCaller::start(address);
    let before = memory(&world.web).await? + memory(&world.api).await?;
    // 16 MiB each; nobody reads.
    let stuck = open(address, READERS, b"GET /big/16777216 HTTP/1.1\r\nhost: api\r\n\r\n").await?;
    at_least(&world.web, "weft_active", READERS).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = memory(&world.web).await? + memory(&world.api).await?;
    println!(
        "{READERS} clients that read nothing of 16 MiB: both proxies hold {:.1} MiB more",
        (after - before) / 1048576.0
    );
    // A stream's window in each proxy, and some for buffers on the way.
    ensure!(after - before < ((READERS * 3) << 20) as f64, "{before} became {after}");
    admin_answers(&world.web).await?;
    load.none_failed("clients that read nothing").await?;
    drop(stuck);
    eventually("what they held is let go", async || {
        let active = world.web.metric("weft_active", &[]).await?;
        ensure!(active == 0.0, "{active} in progress");
        Ok(Some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_limit_of_memory_requests_get_503_with_om_and_all_is_well_when_it_is_over() -> Result<()> {
    if !may_open(5_000, "the limit of memory") {
        return Ok(());
    }
    let world = World::with("", "[limits]\nmemory = \"48MiB\"\n").await?;
    let address = world.web.upstream("api");
    // Connections with a request that does not end can't be asked to leave; their number drives memory up.
    let mut stuck = Vec::new();
    while world.web.metric("weft_overload_level", &[]).await? == 0.0 {
        ensure!(stuck.len() < 2_000, "no pressure with {} connections", stuck.len());
        stuck.extend(open(address, 20, b"GET /big/16777216 HTTP/1.1\r\nhost: api\r\n\r\n").await?);
    }
    // Not at once: who was refused just now may still be read out to.
    eventually("a call is refused, with the flag", async || {
        let (head, body) = asked(address, "/good").await?;
        ensure!(head.starts_with("HTTP/1.1 503") && body.contains("(OM)"), "{head} {body}");
        Ok(Some(()))
    })
    .await?;
    let held = world.web.metric("weft_memory_bytes", &[]).await?;
    println!("refused with OM at {:.1} MiB of 48 MiB, {} connections", held / 1048576.0, stuck.len());
    // Relief may have taken the pressure off again meanwhile; more brings it back.
    eventually("it is ready, and says that it is overloaded", async || {
        let (status, body) = world.web.admin("/ready").await?;
        ensure!(status == 200, "{status} {body}");
        if !body.contains("limits.memory") {
            stuck.extend(open(address, 20, b"GET /big/16777216 HTTP/1.1\r\nhost: api\r\n\r\n").await?);
            return Ok(None);
        }
        Ok(Some(()))
    })
    .await?;
    drop(stuck);
    eventually("calls are answered again", async || world.good().await.map(Some)).await?;
    eventually("the pressure is off", async || {
        let level = world.web.metric("weft_overload_level", &[]).await?;
        ensure!(level == 0.0, "level {level}, {} bytes", world.web.metric("weft_memory_bytes", &[]).await?);
        Ok(Some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_files_left_connections_are_refused_and_admin_and_drain_answer() -> Result<()> {
    let mut world = World::start("").await?;
    let web = &mut world.web;
    let pid = rustix::process::Pid::from_raw(web.process.pid()?.cast_signed()).context("a process id")?;
    let few = Rlimit { current: Some(200), maximum: Some(200) };
    rustix::process::prlimit(Some(pid), Resource::Nofile, few)?;
    // The proxy looks at its limit twice a second, and says nothing of it: this is the one wait that can't ask.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let address = web.upstream("api");
    let mut stuck = Vec::new();
    eventually("connections are refused", async || {
        // Requests that do not end: their connections can't make room. One that is refused may fail to write its own.
        if let Ok(opened) = open(address, 20, b"GET /big/16777216 HTTP/1.1\r\nhost: api\r\n\r\n").await {
            stuck.extend(opened);
        }
        let refused = web.metric("weft_limit_refusals_total", &["limit=\"files\""]).await?;
        ensure!(refused >= 50.0, "{refused} were refused, {} are open", stuck.len());
        Ok(Some(()))
    })
    .await?;
    admin_answers(web).await?;
    drop(stuck);
    eventually("calls are answered again", async || crate::world::good(address).await.map(Some)).await?;
    let status = web.process.stop(Duration::from_secs(10)).await?;
    ensure!(status.success(), "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_of_files_is_raised_and_leaves_some_for_the_admin_endpoint() -> Result<()> {
    let hard = getrlimit(Resource::Nofile).maximum;
    let world = World::start("").await?;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", world.web.process.pid()?))?;
    let line = limits.lines().find(|line| line.starts_with("Max open files")).context("a line")?;
    let numbers: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
    let hard = hard.map_or("unlimited".to_owned(), |hard| hard.to_string());
    assert_eq!(numbers, [hard.as_str(), hard.as_str()]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_whole_handshakes_without_a_certificate_keeps_no_good_caller_out() -> Result<()> {
    const EACH: usize = 100;
    let world = World::start("").await?;
    let load = GoodCaller::start(world.web.upstream("api"));
    let mut flood = JoinSet::new();
    for _ in 0..8 {
        let address = world.api.tunnel;
        flood.spawn(async move {
            for _ in 0..EACH {
                let mut tls = connect(address, caller(None, &[&TLS13], &[b"weft/1"])?).await?;
                // The refusal, or the end under it.
                let _ = tls.read(&mut [0; 64]).await;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = flood.join_next().await {
        ended??;
    }
    let refused = crate::world::refused(&world.api, "destination", "no_certificate").await?;
    assert_eq!(refused, (8 * EACH) as f64);
    admin_answers(&world.api).await?;
    load.none_failed("800 handshakes without a certificate").await.map(drop)
}
