//! Callers that must not get in at the tunnel: what they see, what is counted, and that nobody else notices.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustls::AlertDescription as Alert;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use weft_integration::eventually;

use crate::certificates::{API, rows};
use crate::wire::{Seen, callee, caller, connect, knock, request, seen};
use crate::world::{World, refused};

const WEFT: &[u8] = b"weft/1";
const WEB: &str = "spiffe://test.weft/ns/default/sa/web";

#[tokio::test]
async fn a_caller_with_a_wrong_certificate_gets_an_alert_and_its_reason_is_counted() -> Result<()> {
    let world = World::start("").await?;
    let port = world.app.address.port();
    // The rig itself can get in.
    let good = world.ca.leaf(WEB, |_| {})?.certified()?;
    let in_it_comes = knock(world.api.tunnel, caller(Some(good), &[&TLS13], &[WEFT])?, port, "/good").await?;
    assert_eq!(in_it_comes, Seen::Served);
    world.only_good(1)?;
    let rows = rows(&world.ca)?;
    for row in &rows {
        let context = || format!("row {:?}", row.name);
        let before = refused(&world.api, "destination", row.reason).await?;
        let config = caller(Some(row.presented.certified()?), &[&TLS13], &[WEFT])?;
        let came = knock(world.api.tunnel, config, port, "/evil").await.with_context(context)?;
        // The alert can get lost where the server ends the connection under a message that is still being sent.
        let long = row.name == "80 KiB of certificates" && came == Seen::Closed;
        ensure!(long || matches!(came, Seen::Alert(_)), "row {:?}: {came:?}", row.name);
        eventually("it is counted by its reason", async || {
            let now = refused(&world.api, "destination", row.reason).await?;
            ensure!(
                now == before + 1.0,
                "{} was {before} and is {now}\n{}",
                row.reason,
                last_refusal(&world)
            );
            Ok(Some(()))
        })
        .await
        .with_context(context)?;
        world.good().await.with_context(context)?;
        world.only_good(1).with_context(context)?;
    }
    println!("{} wrong certificates of callers: each refused and counted", rows.len());
    Ok(())
}

fn last_refusal(world: &World) -> String {
    let log = world.api.process.log();
    log.lines().rev().find(|line| line.contains("TLS handshake refused")).unwrap_or_default().to_owned()
}

/// One way to shake hands wrongly.
struct Wrong {
    name: &'static str,
    config: rustls::ClientConfig,
    sees: &'static [Seen],
    reason: &'static str,
}

#[tokio::test]
async fn another_version_protocol_or_no_certificate_is_refused_and_counted() -> Result<()> {
    let world = World::start("").await?;
    let good = || anyhow::Ok(Some(world.ca.leaf(WEB, |_| {})?.certified()?));
    let wrong = |name, config, sees, reason| Wrong { name, config, sees, reason };
    let version = &[Seen::Alert(Alert::ProtocolVersion)];
    let rows = [
        // TLS 1.2 is what renegotiation needs.
        wrong("TLS 1.2 only", caller(good()?, &[&TLS12], &[WEFT])?, version, "incompatible"),
        wrong(
            "no certificate",
            caller(None, &[&TLS13], &[WEFT])?,
            &[Seen::Alert(Alert::CertificateRequired)],
            "no_certificate",
        ),
        wrong(
            "an unknown protocol",
            caller(good()?, &[&TLS13], &[b"http/1.1"])?,
            &[Seen::Alert(Alert::NoApplicationProtocol)],
            "incompatible",
        ),
        wrong("no protocol", caller(good()?, &[&TLS13], &[])?, &[Seen::Closed], "incompatible"),
    ];
    for row in rows {
        let before = refused(&world.api, "destination", row.reason).await?;
        let came = knock(world.api.tunnel, row.config, world.app.address.port(), "/evil").await?;
        ensure!(row.sees.contains(&came), "row {:?}: {came:?}", row.name);
        eventually("it is counted", async || {
            let now = refused(&world.api, "destination", row.reason).await?;
            ensure!(now == before + 1.0, "row {:?}: {} was {before} and is {now}", row.name, row.reason);
            Ok(Some(()))
        })
        .await?;
        world.good().await?;
        world.only_good(1).with_context(|| format!("row {:?}", row.name))?;
    }
    Ok(())
}

/// A record's head that says more than a record may carry (RFC 8446 5.1).
const OVERSIZED: &[u8] = b"\x16\x03\x01\xff\xff\x01\x00\xff\xfb\x03\x03";
/// The first half of a ClientHello.
const HALF_A_HELLO: &[u8] = b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03aaaaaaaaaaaaaaaa";
/// An SSL 2.0 hello, as old scanners send it.
const SSL2: &[u8] = b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10\x01\x00\x80";
/// An alert before anything else.
const ALERT: &[u8] = b"\x15\x03\x03\x00\x02\x02\x28";
/// Application data before a handshake.
const EARLY: &[u8] = b"\x17\x03\x03\x00\x05GET /";
/// A hello of no bytes, and one whose lengths do not fit each other.
const EMPTY_HELLO: &[u8] = b"\x16\x03\x01\x00\x04\x01\x00\x00\x00";
/// See [`EMPTY_HELLO`].
const TORN_HELLO: &[u8] = b"\x16\x03\x01\x00\x0a\x01\x00\x00\x06\x03\x03\xff\xff\xff\xff";

#[tokio::test]
async fn bytes_that_are_no_handshake_are_ended_at_once_and_half_of_one_in_time() -> Result<()> {
    let world = World::start("[timeouts]\nhandshake = \"1s\"\n").await?;
    let rows: &[(&str, &[u8], Option<&str>)] = &[
        ("HTTP", b"GET /evil HTTP/1.1\r\nhost: api\r\n\r\n", Some("not_tls")),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some("not_tls")),
        ("zeros", &[0; 512], Some("not_tls")),
        ("noise", &[0xa5; 4096], Some("not_tls")),
        ("an oversized record", OVERSIZED, Some("not_tls")),
        ("SSL 2", SSL2, Some("not_tls")),
        ("an empty hello", EMPTY_HELLO, Some("not_tls")),
        ("a torn hello", TORN_HELLO, Some("not_tls")),
        ("an alert", ALERT, Some("incompatible")),
        ("application data", EARLY, Some("other")),
        // What says nothing wrong is no refusal.
        ("half a hello", HALF_A_HELLO, None),
        ("nothing", b"", None),
    ];
    for (name, bytes, reason) in rows {
        let before = world.api.metric("weft_handshakes_refused_total", &["destination"]).await?;
        let mut stream = TcpStream::connect(world.api.tunnel).await?;
        stream.write_all(bytes).await?;
        let mut said = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut said)).await;
        ensure!(ended.is_ok(), "row {name:?}: it is kept although timeouts.handshake is over");
        // An alert at most (RFC 8446 6): seven bytes.
        ensure!(said.len() <= 7, "row {name:?}: {said:?}");
        if let Some(reason) = reason {
            eventually("it is counted", async || {
                let all = world.api.metric("weft_handshakes_refused_total", &["destination"]).await?;
                ensure!(all == before + 1.0, "row {name:?}: {}", last_refusal(&world));
                Ok(Some(()))
            })
            .await?;
            ensure!(
                refused(&world.api, "destination", reason).await? >= 1.0,
                "row {name:?}: {}",
                last_refusal(&world)
            );
        }
        world.good().await?;
        world.only_good(1).with_context(|| format!("row {name:?}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn tls_to_a_plaintext_port_and_a_caller_that_leaves_early_reach_nobody() -> Result<()> {
    let world = World::start("").await?;
    let good = || anyhow::Ok(Some(world.ca.leaf(WEB, |_| {})?.certified()?));
    for _ in 0..3 {
        let came = knock(world.web.upstream("api"), caller(good()?, &[&TLS13], &[WEFT])?, 1, "/evil").await?;
        assert_eq!(came, Seen::Closed, "the answer is no TLS");
    }
    // close_notify right after the handshake, and in the middle of a request.
    for half in [0, 40] {
        let mut tls = connect(world.api.tunnel, caller(good()?, &[&TLS13], &[WEFT])?).await?;
        let bytes = request(world.app.address.port(), "/evil");
        tls.write_all(&bytes[..half]).await?;
        tls.shutdown().await?;
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(10), tls.read_to_end(&mut rest)).await;
        ensure!(ended.is_ok(), "the connection stays although its caller has closed it");
    }
    world.good().await?;
    world.only_good(1)?;
    assert_eq!(world.api.metric("weft_handshakes_refused_total", &["destination"]).await?, 0.0);
    Ok(())
}

#[tokio::test]
async fn a_second_hello_inside_a_connection_ends_it() -> Result<()> {
    let world = World::start("").await?;
    let good = Some(world.ca.leaf(WEB, |_| {})?.certified()?);
    let mut tls = connect(world.api.tunnel, caller(good, &[&TLS13], &[WEFT])?).await?;
    tls.read_exact(&mut [0; 9]).await?;
    // TLS 1.3 has no renegotiation (RFC 8446 4.1.2); in the clear it is not even a record of this connection.
    tls.get_mut().0.write_all(HALF_A_HELLO).await?;
    tls.get_mut().0.write_all(&[0; 4096]).await?;
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(10), tls.read_to_end(&mut rest)).await?;
    let came = ended.err().map_or(Seen::Closed, |error| seen(&error));
    ensure!(matches!(came, Seen::Alert(_) | Seen::Closed), "{came:?}");
    world.good().await?;
    world.only_good(1)
}

#[tokio::test]
async fn a_flood_of_key_updates_on_a_good_connection_costs_nobody_a_request() -> Result<()> {
    let world = World::start("").await?;
    let good = Some(world.ca.leaf(WEB, |_| {})?.certified()?);
    let mut tls = connect(world.api.tunnel, caller(good, &[&TLS13], &[WEFT])?).await?;
    tls.read_exact(&mut [0; 9]).await?;
    let memory = world.api.metric("weft_memory_bytes", &[]).await?;
    for _ in 0..200 {
        for _ in 0..50 {
            tls.get_mut().1.refresh_traffic_keys()?;
        }
        if tls.flush().await.is_err() {
            break;
        }
        // Whatever answers come are not read.
    }
    for _ in 0..5 {
        world.good().await?;
    }
    world.only_good(5)?;
    eventually("it holds no more memory than before, but for some", async || {
        let now = world.api.metric("weft_memory_bytes", &[]).await?;
        ensure!(now < memory + f64::from(8 << 20), "{memory} became {now}");
        Ok(Some(()))
    })
    .await
}

#[tokio::test]
async fn a_session_of_another_server_and_early_data_are_no_way_in() -> Result<()> {
    let world = World::start("").await?;
    // A server of the attacker's own gives a session and takes early data.
    let own = world.ca.leaf(API, |_| {})?.certified()?;
    let mut config = callee(own, &[&TLS13], &[WEFT])?;
    config.max_early_data_size = 16_384;
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let serving = tokio::spawn(async move {
        let mut tls = acceptor.accept(listener.accept().await?.0).await?;
        tls.write_all(b"a session").await?;
        tls.shutdown().await
    });
    let mut config = caller(None, &[&TLS13], &[WEFT])?;
    config.resumption = rustls::client::Resumption::in_memory_sessions(8);
    config.enable_early_data = true;
    let config = Arc::new(config);
    // Sessions are kept by name.
    let name = || ServerName::try_from("api.test");
    let connector = tokio_rustls::TlsConnector::from(config.clone());
    let mut first = connector.connect(name()?, TcpStream::connect(address).await?).await?;
    let mut said = Vec::new();
    first.read_to_end(&mut said).await?;
    serving.await??;

    let (address, bytes) = (world.api.tunnel, request(world.app.address.port(), "/evil"));
    let name = name()?;
    let came = tokio::task::spawn_blocking(move || early(address, config, name, &bytes)).await??;
    assert_eq!(came, Seen::Alert(Alert::CertificateRequired));
    assert_eq!(refused(&world.api, "destination", "no_certificate").await?, 1.0);
    world.good().await?;
    world.only_good(1)
}

/// Sends `bytes` with the hello, before anybody has proved anything, and says what comes back.
fn early(
    address: std::net::SocketAddr,
    config: Arc<rustls::ClientConfig>,
    name: ServerName<'static>,
    bytes: &[u8],
) -> Result<Seen> {
    let mut tcp = std::net::TcpStream::connect(address)?;
    tcp.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut tls = rustls::ClientConnection::new(config, name)?;
    tls.early_data().context("there is no session that allows it")?.write_all(bytes)?;
    let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
    let ended = stream.read_to_end(&mut Vec::new());
    Ok(seen(&ended.err().context("it was served")?))
}

#[tokio::test]
async fn a_flood_of_refused_callers_is_counted_whole_and_logged_in_part() -> Result<()> {
    let world = World::start("").await?;
    const CALLERS: usize = 300;
    for _ in 0..CALLERS {
        let mut stream = TcpStream::connect(world.api.tunnel).await?;
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await?;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    assert_eq!(refused(&world.api, "destination", "not_tls").await?, CALLERS as f64);
    let log = world.api.process.log();
    let lines = log.lines().filter(|line| line.contains("TLS handshake refused")).count();
    // Ten a second; the flood takes a few seconds on a slow machine.
    ensure!((10..CALLERS / 2).contains(&lines), "{lines} lines");
    world.good().await?;
    world.only_good(1)
}
