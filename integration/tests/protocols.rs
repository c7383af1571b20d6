//! Every protocol through a pair of real proxies, over mTLS: what one side sent is what the other side saw.

use anyhow::{Context, Result};
use bytes::{Buf, Bytes};
use http_body_util::{BodyExt, Full};
use hyper::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use weft_integration::{Answer, App, Mesh, MeshPlan, Proxy, ProxyPlan, get, http1, http2};

/// A mesh in which `web` calls `api` (HTTP), `greeter` (gRPC) and `store` (TCP).
struct Pair {
    _mesh: Mesh,
    _apps: Vec<App>,
    callees: Vec<Proxy>,
    web: Proxy,
}

async fn pair(protocol: &str) -> Result<Pair> {
    let mesh = Mesh::start(MeshPlan::default()).await?;
    let api = mesh.http_app("api", "v1").await?;
    let greeter = mesh.grpc_app("greeter").await?;
    let store = mesh.tcp_app("store").await?;
    let callees = vec![
        mesh.member(&api, "v1", protocol).await?,
        mesh.member(&greeter, "v1", "grpc").await?,
        mesh.member(&store, "v1", "tcp").await?,
    ];
    let plan = ProxyPlan::new("web", "web").upstream("api").upstream("greeter").upstream("store").http_port();
    let web = mesh.proxy(plan).await?;
    web.ready().await?;
    Ok(Pair { _mesh: mesh, _apps: vec![api, greeter, store], callees, web })
}

const WEB: &str = "spiffe://test.weft/ns/default/sa/web";

#[tokio::test]
async fn http1_arrives_with_the_callers_identity_and_nothing_of_the_meshs_own() -> Result<()> {
    let pair = pair("http1").await?;
    let answer = get(pair.web.upstream("api"), "/some/path?q=1%2F2").await?;
    assert_eq!((answer.name.as_str(), answer.protocol.as_str()), ("api", "HTTP/1.1"));
    assert_eq!(answer.path, "/some/path?q=1%2F2");
    assert_eq!(answer.caller.as_deref(), Some(WEB));
    assert_eq!(answer.headers.get("host").map(String::as_str), Some("test"));
    let ours: Vec<_> = answer.headers.keys().filter(|name| name.starts_with("weft-")).collect();
    assert!(ours.is_empty(), "the application saw {ours:?}");
    Ok(())
}

#[tokio::test]
async fn a_caller_cannot_claim_an_identity_by_header() -> Result<()> {
    let pair = pair("http1").await?;
    let request = Request::get("/")
        .header("host", "test")
        .header("x-forwarded-client-cert", "URI=spiffe://test.weft/ns/default/sa/admin")
        .header("weft-port", "1")
        .body(Full::default())?;
    let body = http1(pair.web.upstream("api"), request).await?.into_body().collect().await?.to_bytes();
    let answer: Answer = serde_json::from_slice(&body)?;
    assert_eq!(answer.caller.as_deref(), Some(WEB));
    Ok(())
}

#[tokio::test]
async fn bodies_of_every_size_come_back_as_they_went() -> Result<()> {
    let pair = pair("http1").await?;
    for size in [0, 1, 1000, 100_000, 5_000_000] {
        let sent = Bytes::from((0..size).map(|n| (n % 251) as u8).collect::<Vec<_>>());
        let request = Request::post("/echo").header("host", "test").body(Full::new(sent.clone()))?;
        let response = http1(pair.web.upstream("api"), request).await?;
        assert_eq!(response.status(), StatusCode::OK);
        let back = response.into_body().collect().await?.to_bytes();
        assert!(back == sent, "{} of {size} bytes came back", back.len());
    }
    Ok(())
}

#[tokio::test]
async fn every_method_and_status_passes() -> Result<()> {
    let pair = pair("http1").await?;
    for method in [Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS, Method::HEAD] {
        let request = Request::builder()
            .method(method.clone())
            .uri("/x")
            .header("host", "test")
            .body(Full::default())?;
        let response = http1(pair.web.upstream("api"), request).await?;
        assert_eq!(response.status(), StatusCode::OK, "{method}");
    }
    for status in [204, 301, 404, 418, 500, 503] {
        let request =
            Request::get(format!("/status/{status}")).header("host", "test").body(Full::default())?;
        let response = http1(pair.web.upstream("api"), request).await?;
        assert_eq!(response.status().as_u16(), status);
    }
    Ok(())
}

#[tokio::test]
async fn http2_is_http2_at_both_ends() -> Result<()> {
    let pair = pair("http2").await?;
    let request = Request::get("http://api.example/h2").body(Full::default())?;
    let body = http2(pair.web.upstream("api"), request).await?.into_body().collect().await?.to_bytes();
    let answer: Answer = serde_json::from_slice(&body)?;
    assert_eq!((answer.protocol.as_str(), answer.caller.as_deref()), ("HTTP/2.0", Some(WEB)));
    Ok(())
}

#[tokio::test]
async fn an_undeclared_protocol_is_seen_by_the_first_bytes() -> Result<()> {
    let pair = pair("detect").await?;
    let answer = get(pair.web.upstream("api"), "/").await?;
    assert_eq!((answer.protocol.as_str(), answer.caller.as_deref()), ("HTTP/1.1", Some(WEB)));
    let request = Request::get("http://api.example/").body(Full::default())?;
    let body = http2(pair.web.upstream("api"), request).await?.into_body().collect().await?.to_bytes();
    assert_eq!(serde_json::from_slice::<Answer>(&body)?.protocol, "HTTP/2.0");
    Ok(())
}

/// One gRPC call; messages and status.
async fn grpc(pair: &Pair, method: &str) -> Result<(usize, Option<String>)> {
    let name = b"weft";
    let mut message = vec![0, 0, 0, 0, 6, 0x0a, 4];
    message.extend_from_slice(name);
    let request = Request::post(format!("http://greeter/weft.demo.v1.Greeter/{method}"))
        .header(CONTENT_TYPE, "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::from(message)))?;
    let response = http2(pair.web.upstream("greeter"), request).await?;
    let in_head = response.headers().get("grpc-status").cloned();
    let body = response.into_body().collect().await?;
    let status = body.trailers().and_then(|trailers| trailers.get("grpc-status").cloned()).or(in_head);
    let (mut bytes, mut messages) = (body.to_bytes(), 0);
    while bytes.len() >= 5 {
        let _compressed = bytes.get_u8();
        let length = bytes.get_u32() as usize;
        bytes.advance(length);
        messages += 1;
    }
    Ok((messages, status.map(|status| status.to_str().unwrap_or("?").to_owned())))
}

#[tokio::test]
async fn grpc_keeps_its_trailers_and_its_stream_of_messages() -> Result<()> {
    let pair = pair("http1").await?;
    assert_eq!(grpc(&pair, "Hello").await?, (1, Some("0".to_owned())));
    assert_eq!(grpc(&pair, "Count").await?, (5, Some("0".to_owned())));
    assert_eq!(grpc(&pair, "Nothing").await?, (0, Some("12".to_owned())));
    let counted = pair
        .web
        .metric("istio_requests_total", &["grpc_response_status=\"12\"", "request_protocol=\"grpc\""])
        .await?;
    assert_eq!(counted, 1.0);
    Ok(())
}

#[tokio::test]
async fn a_proxy_made_failure_of_a_grpc_call_is_a_grpc_status() -> Result<()> {
    let mut pair = pair("http1").await?;
    for callee in &mut pair.callees {
        callee.process.kill().await?;
    }
    let (messages, status) = grpc(&pair, "Hello").await?;
    assert_eq!((messages, status), (0, Some("14".to_owned())));
    Ok(())
}

#[tokio::test]
async fn an_upgrade_is_granted_and_its_bytes_flow_both_ways() -> Result<()> {
    let pair = pair("http1").await?;
    for protocol in ["websocket", "echo"] {
        let request = Request::get("/chat")
            .header("host", "test")
            .header(CONNECTION, "upgrade")
            .header(UPGRADE, protocol)
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-version", "13")
            .body(Full::default())?;
        let mut response = http1(pair.web.upstream("api"), request).await?;
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS, "{protocol}");
        assert_eq!(response.headers().get(UPGRADE).map(|value| value.as_bytes()), Some(protocol.as_bytes()));
        let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await?);
        for text in ["first", "second"] {
            stream.write_all(text.as_bytes()).await?;
            let mut back = vec![0; text.len()];
            stream.read_exact(&mut back).await?;
            assert_eq!(back, text.as_bytes());
        }
        // Half-close: the echo ends when ours has ended.
        stream.shutdown().await?;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await?;
        assert!(rest.is_empty());
    }
    Ok(())
}

#[tokio::test]
async fn the_hundred_continue_comes_before_the_body() -> Result<()> {
    let pair = pair("http1").await?;
    let mut stream = BufReader::new(TcpStream::connect(pair.web.upstream("api")).await?);
    stream
        .write_all(b"POST /echo HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        .await?;
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    assert!(line.starts_with("HTTP/1.1 100"), "{line}");
    stream.read_line(&mut line).await?;
    stream.write_all(b"hello").await?;
    let mut status = String::new();
    stream.read_line(&mut status).await?;
    assert!(status.starts_with("HTTP/1.1 200"), "{status}");
    Ok(())
}

#[tokio::test]
async fn a_tcp_server_speaks_first_and_each_half_closes_by_itself() -> Result<()> {
    let pair = pair("http1").await?;
    let (from, mut to) = TcpStream::connect(pair.web.upstream("store")).await?.into_split();
    let mut lines = BufReader::new(from).lines();
    assert_eq!(lines.next_line().await?.as_deref(), Some("store v1 ready"));
    to.write_all(b"set a 1\nget a\n").await?;
    assert_eq!(lines.next_line().await?.as_deref(), Some("ok"));
    assert_eq!(lines.next_line().await?.as_deref(), Some("1"));
    to.shutdown().await?;
    assert_eq!(lines.next_line().await?.as_deref(), Some("bye 2"));
    assert_eq!(lines.next_line().await?, None);
    let log = weft_integration::eventually("the store's proxy logs the connection", async || {
        let store = pair.callees.get(2).context("three callees")?;
        Ok(store.access_log().into_iter().find(|line| line["reporter"] == "destination"))
    })
    .await?;
    assert_eq!(log["source"], WEB);
    Ok(())
}

#[tokio::test]
async fn megabytes_of_tcp_arrive_in_order() -> Result<()> {
    let pair = pair("http1").await?;
    let (from, mut to) = TcpStream::connect(pair.web.upstream("store")).await?.into_split();
    let writer = tokio::spawn(async move {
        for n in 0..20_000 {
            to.write_all(format!("line {n} {}\n", "x".repeat(200)).as_bytes()).await?;
        }
        to.shutdown().await
    });
    let mut lines = BufReader::new(from).lines();
    lines.next_line().await?;
    for n in 0..20_000 {
        let line = lines.next_line().await?.context("the stream ended early")?;
        assert!(line.starts_with(&format!("echo line {n} ")), "line {n} is {line:.40}");
    }
    assert_eq!(lines.next_line().await?.as_deref(), Some("bye 20000"));
    writer.await??;
    Ok(())
}

#[tokio::test]
async fn the_http_port_routes_by_host_and_says_why_it_cannot() -> Result<()> {
    let pair = pair("http1").await?;
    for host in ["api", "api.default", "API.default:80"] {
        let request = Request::get("/").header("host", host).body(Full::default())?;
        let response = http1(pair.web.http(), request).await?;
        assert_eq!(response.status(), StatusCode::OK, "{host}");
    }
    let request = Request::get("/").header("host", "nobody.default").body(Full::default())?;
    let response = http1(pair.web.http(), request).await?;
    assert!(matches!(response.status().as_u16(), 404 | 502), "{}", response.status());
    let line = weft_integration::eventually("the refusal is in the access log", async || {
        Ok(pair.web.access_log().into_iter().find(|line| line["response_flags"] == "NR"))
    })
    .await?;
    assert!(line.to_string().contains("nobody"), "{line}");
    Ok(())
}

#[tokio::test]
async fn malformed_requests_get_400_and_never_reach_the_application() -> Result<()> {
    let pair = pair("http1").await?;
    let bad: [&[u8]; 4] = [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nbad header: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: abc\r\n\r\n",
    ];
    for request in bad {
        let mut stream = TcpStream::connect(pair.web.upstream("api")).await?;
        stream.write_all(request).await?;
        let mut answer = vec![0; 12];
        stream.read_exact(&mut answer).await?;
        assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 400", "{}", String::from_utf8_lossy(request));
    }
    let api = pair.callees.first().context("three callees")?;
    assert_eq!(api.metric("istio_requests_total", &[]).await?, 0.0);
    Ok(())
}

#[tokio::test]
async fn connect_through_an_upstream_reaches_the_application() -> Result<()> {
    let pair = pair("http1").await?;
    // The test application answers CONNECT like any method it does not know: what counts is that it is asked.
    let mut stream = BufReader::new(TcpStream::connect(pair.web.upstream("api")).await?);
    stream.write_all(b"CONNECT db.example:5432 HTTP/1.1\r\nhost: db.example:5432\r\n\r\n").await?;
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    assert!(line.starts_with("HTTP/1.1 200"), "{line}");
    Ok(())
}
