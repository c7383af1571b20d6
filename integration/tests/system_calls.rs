//! What a request costs in system calls: a figure without noise, so it is a gate.
//!
//! One request after the other on one connection, the dearest case: nothing can be done for two requests at once. The floor
//! of a hop is two of each: wait, receive, send. The proxies are what is built for tests: optimisation changes nothing here.

use anyhow::{Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use weft_integration::{Mesh, MeshPlan, Proxy, ProxyPlan, count_system_calls, eventually, get, skipped_on};

/// Before counting: connections are made, buffers are there.
const WARM: u32 = 20;
const COUNTED: u32 = 400;

/// What may be spent on a request.
const HOP: f64 = 7.0;
const PAIR: f64 = 14.0;

/// A count to two digits, or none where there is no strace.
async fn calls_a_request(
    what: &str,
    proxies: &[&Proxy],
    send: impl AsyncFn() -> Result<()>,
) -> Result<Option<f64>> {
    for _ in 0..WARM {
        send().await?;
    }
    let pids: Vec<u32> = proxies.iter().map(|proxy| proxy.process.pid()).collect::<Result<_>>()?;
    let all = async {
        for _ in 0..COUNTED {
            send().await?;
        }
        Ok(())
    };
    let Some((calls, ())) = count_system_calls(&pids, all).await? else {
        skipped_on("strace", what);
        return Ok(None);
    };
    let each = calls as f64 / f64::from(COUNTED);
    println!("{what}: {each:.2} system calls a request");
    Ok(Some(each))
}

async fn over_http1(what: &str, proxies: &[&Proxy], entry: std::net::SocketAddr) -> Result<Option<f64>> {
    let (sender, connection) = http1::handshake(TokioIo::new(TcpStream::connect(entry).await?)).await?;
    let driver = tokio::spawn(connection);
    let sender = tokio::sync::Mutex::new(sender);
    let calls = calls_a_request(what, proxies, async || {
        let mut sender = sender.lock().await;
        sender.ready().await?;
        let request = Request::get("/").header("host", "api").body(Full::<Bytes>::default())?;
        let response = sender.send_request(request).await?;
        ensure!(response.status() == 200, "{}", response.status());
        response.into_body().collect().await?;
        Ok(())
    })
    .await;
    driver.abort();
    calls
}

/// A gRPC call over HTTP/2 all the way. Client and server are bytes, each message in one write: libraries that send a head,
/// a body and trailers one after the other wake every proxy for each, whatever the proxy does.
async fn over_grpc(what: &str, proxies: &[&Proxy], entry: std::net::SocketAddr) -> Result<Option<f64>> {
    let mut stream = TcpStream::connect(entry).await?;
    stream.set_nodelay(true)?;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
    stream.write_all(&[frame(SETTINGS, 0, 0, b""), frame(SETTINGS, ACK, 0, b"")].concat()).await?;
    let calls = tokio::sync::Mutex::new((stream, 1_u32));
    calls_a_request(what, proxies, async || {
        let (stream, id) = &mut *calls.lock().await;
        // :method POST, :scheme http, :path /, :authority api
        let head = frame(HEADERS, END_HEADERS, *id, b"\x83\x86\x84\x01\x03api");
        stream.write_all(&[head, frame(DATA, END_STREAM, *id, &[0; 64])].concat()).await?;
        while read_frame(stream).await? != (HEADERS, END_HEADERS | END_STREAM, *id) {}
        *id += 2;
        Ok(())
    })
    .await
}

/// Answers every call with a head, a message and a trailer.
async fn grpc_server(listener: TcpListener) -> Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            stream.read_exact(&mut [0; 24]).await?;
            stream.write_all(&[frame(SETTINGS, 0, 0, b""), frame(SETTINGS, ACK, 0, b"")].concat()).await?;
            loop {
                let (kind, flags, id) = read_frame(&mut stream).await?;
                if kind == DATA && flags & END_STREAM != 0 {
                    let head = frame(HEADERS, END_HEADERS, id, b"\x88");
                    let trailer = frame(HEADERS, END_HEADERS | END_STREAM, id, b"\x00\x0bgrpc-status\x010");
                    stream.write_all(&[head, frame(DATA, 0, id, &[0; 100]), trailer].concat()).await?;
                }
            }
            #[allow(unreachable_code)] // the type of the errors above
            anyhow::Ok(())
        });
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u32;
    [&length.to_be_bytes()[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The next frame's type, flags and stream.
async fn read_frame(stream: &mut TcpStream) -> Result<(u8, u8, u32)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    let [a, b, c, kind, flags, id @ ..] = head;
    stream.read_exact(&mut vec![0; u32::from_be_bytes([0, a, b, c]) as usize]).await?;
    Ok((kind, flags, u32::from_be_bytes(id)))
}

async fn caller_of(mesh: &Mesh, service: &str, more: &str) -> Result<Proxy> {
    let caller = mesh.proxy(ProxyPlan::new("web", "web").quiet().upstream_with(service, more)).await?;
    caller.ready().await?;
    Ok(caller)
}

/// The callee's proxy, which logs no requests either: a file is another system call.
async fn quiet_member(mesh: &Mesh, port: u16, protocol: &str) -> Result<Proxy> {
    let proxy = mesh.proxy(ProxyPlan::new("api", "api").quiet().inbound(port, protocol)).await?;
    mesh.register("app.yaml", &proxy.object("api", "v1", port, protocol))?;
    proxy.ready().await?;
    Ok(proxy)
}

#[tokio::test]
async fn one_hop_costs_at_most_seven_system_calls_a_request() -> Result<()> {
    let mesh = Mesh::start(MeshPlan::default()).await?;
    let app = mesh.http_app("api", "v1").await?;
    let object = format!(
        "kind: Workload\nname: api\nservice: api\naddresses: [127.0.0.1]\nhealth: healthy\n\
         ports: [{{name: main, number: {}, protocol: http1}}]\n",
        app.address.port()
    );
    mesh.register("app.yaml", &object)?;
    let web = caller_of(&mesh, "api", "plaintext = true").await?;
    eventually("the hop carries", async || get(web.upstream("api"), "/").await.map(Some)).await?;
    let calls = over_http1("one plaintext HTTP/1.1 hop", &[&web], web.upstream("api")).await?;
    ensure!(calls.is_none_or(|calls| calls <= HOP), "{calls:?} system calls a request, at most {HOP}");
    Ok(())
}

#[tokio::test]
async fn a_pair_costs_at_most_fourteen_system_calls_a_request() -> Result<()> {
    let mesh = Mesh::start(MeshPlan::default()).await?;
    let app = mesh.http_app("api", "v1").await?;
    let api = quiet_member(&mesh, app.address.port(), "http1").await?;
    let web = caller_of(&mesh, "api", "").await?;
    eventually("the pair carries", async || get(web.upstream("api"), "/").await.map(Some)).await?;
    let calls = over_http1("a pair with mTLS, HTTP/1.1", &[&web, &api], web.upstream("api")).await?;
    ensure!(calls.is_none_or(|calls| calls <= PAIR), "{calls:?} system calls a request, at most {PAIR}");
    Ok(())
}

#[tokio::test]
async fn a_pair_costs_at_most_fourteen_system_calls_a_grpc_call() -> Result<()> {
    let mesh = Mesh::start(MeshPlan::default()).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let server = tokio::spawn(grpc_server(listener));
    let api = quiet_member(&mesh, port, "grpc").await?;
    let web = caller_of(&mesh, "api", "").await?;
    let calls = over_grpc("a pair with mTLS, gRPC", &[&web, &api], web.upstream("api")).await?;
    server.abort();
    ensure!(calls.is_none_or(|calls| calls <= PAIR), "{calls:?} system calls a call, at most {PAIR}");
    Ok(())
}
