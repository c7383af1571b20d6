//! What a request costs in system calls: a figure without noise, so it is a gate.
//!
//! One request after the other on one connection, the dearest case: nothing can be done for two requests at once. The floor
//! of a hop is two of each: wait, receive, send. The proxies are what is built for tests: optimisation changes nothing here.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use weft_integration::{
    App, Mesh, MeshPlan, Proxy, ProxyPlan, count_system_calls, eventually, get, skipped_on,
};

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

/// A call with a body, over HTTP/2 all the way. The application answers in one piece: one that sends its trailers later, as
/// a gRPC server may, wakes every proxy twice, whatever the proxy does.
async fn over_http2(what: &str, proxies: &[&Proxy], entry: std::net::SocketAddr) -> Result<Option<f64>> {
    let io = TokioIo::new(TcpStream::connect(entry).await?);
    let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
    let driver = tokio::spawn(connection);
    let calls = calls_a_request(what, proxies, async || {
        let mut sender = sender.clone();
        sender.ready().await?;
        let request = Request::post("http://api/").body(Full::new(Bytes::from_static(&[0; 64])))?;
        let response = sender.send_request(request).await?;
        ensure!(response.status() == 200, "{}", response.status());
        response.into_body().collect().await?;
        Ok(())
    })
    .await;
    driver.abort();
    calls
}

async fn caller_of(mesh: &Mesh, service: &str, more: &str) -> Result<Proxy> {
    let caller = mesh.proxy(ProxyPlan::new("web", "web").quiet().upstream_with(service, more)).await?;
    caller.ready().await?;
    Ok(caller)
}

/// The callee's proxy, which logs no requests either: a file is another system call.
async fn quiet_member(mesh: &Mesh, app: &App, protocol: &str) -> Result<Proxy> {
    let plan = ProxyPlan::new(&app.name, &app.name).quiet().inbound(app.address.port(), protocol);
    let proxy = mesh.proxy(plan).await?;
    mesh.register("app.yaml", &proxy.object(&app.name, "v1", app.address.port(), protocol))?;
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
    let api = quiet_member(&mesh, &app, "http1").await?;
    let web = caller_of(&mesh, "api", "").await?;
    eventually("the pair carries", async || get(web.upstream("api"), "/").await.map(Some)).await?;
    let calls = over_http1("a pair with mTLS, HTTP/1.1", &[&web, &api], web.upstream("api")).await?;
    ensure!(calls.is_none_or(|calls| calls <= PAIR), "{calls:?} system calls a request, at most {PAIR}");
    Ok(())
}

#[tokio::test]
async fn a_pair_costs_at_most_fourteen_system_calls_a_call_over_http2() -> Result<()> {
    let mesh = Mesh::start(MeshPlan::default()).await?;
    let app = mesh.http_app("api", "v1").await?;
    let api = quiet_member(&mesh, &app, "http2").await?;
    let web = caller_of(&mesh, "api", "").await?;
    let entry = web.upstream("api");
    let calls = over_http2("a pair with mTLS, HTTP/2 with a body", &[&web, &api], entry).await.context("calling")?;
    ensure!(calls.is_none_or(|calls| calls <= PAIR), "{calls:?} system calls a call, at most {PAIR}");
    Ok(())
}
