//! The demo's own calls: it is the application code of `web`, and speaks HTTP, gRPC and TCP to web's proxy.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::workload::grpc::{HelloReply, HelloRequest, frame, unframe};

/// How long any one call may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What an HTTP workload answers, as far as the demo looks at it.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Answer {
    pub(super) name: String,
    pub(super) version: String,
    #[serde(default)]
    pub(super) protocol: String,
    #[serde(default)]
    pub(super) caller: Option<String>,
    #[serde(default)]
    pub(super) upstream: Option<Box<Answer>>,
}

impl Answer {
    /// The answer of who was called last: of the upstream, where it was relayed.
    pub(super) fn last(self) -> Self {
        match self.upstream {
            Some(upstream) => *upstream,
            None => self,
        }
    }
}

/// One keep-alive connection over which requests go one after the other.
pub(super) struct Http1 {
    address: SocketAddr,
    sender: Option<http1::SendRequest<Full<Bytes>>>,
    /// Drives the connection; ends with this value.
    driver: JoinSet<()>,
}

impl Http1 {
    /// A client of `address`; it connects at its first call.
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, sender: None, driver: JoinSet::new() }
    }

    /// GET `path`; anything but 200 is an error that carries the body.
    pub(super) async fn get(&mut self, path: &str) -> Result<Answer> {
        let result = tokio::time::timeout(PATIENCE, self.exchange(path)).await;
        let result = result.unwrap_or_else(|_| bail!("no answer within {} s", PATIENCE.as_secs()));
        if result.is_err() {
            self.sender = None;
        }
        result
    }

    async fn exchange(&mut self, path: &str) -> Result<Answer> {
        if self.sender.as_ref().is_none_or(http1::SendRequest::is_closed) {
            let stream = connect(self.address).await?;
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            self.driver.spawn(async move {
                // Its end shows at the next request.
                let _ = connection.await;
            });
            self.sender = Some(sender);
        }
        let sender = self.sender.as_mut().context("there is a connection by now")?;
        sender.ready().await?;
        let request = Request::get(path).header("host", "demo").body(Full::default())?;
        let response = sender.send_request(request).await.context("sending the request")?;
        read(response).await
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).await.context("connecting")?;
    // Or small requests wait for the acknowledgement of the one before (Nagle).
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn read(response: Response<hyper::body::Incoming>) -> Result<Answer> {
    let status = response.status();
    let body = response.into_body().collect().await.context("reading the answer")?.to_bytes();
    if status != 200 {
        bail!("{status}: {}", String::from_utf8_lossy(&body).trim());
    }
    serde_json::from_slice(&body)
        .with_context(|| format!("not an answer: {}", String::from_utf8_lossy(&body)))
}

/// One unary gRPC call; the status in the trailers must be 0.
pub(super) async fn greet(address: SocketAddr) -> Result<HelloReply> {
    tokio::time::timeout(PATIENCE, greet_within(address)).await.context("no answer in time")?
}

async fn greet_within(address: SocketAddr) -> Result<HelloReply> {
    let stream = connect(address).await?;
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let request = Request::post("http://greeter/weft.demo.v1.Greeter/Hello")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(frame(&HelloRequest { name: "web".to_owned() })))?;
    let response = sender.send_request(request).await.context("sending the request")?;
    let in_headers = response.headers().get("grpc-status").cloned();
    let body = response.into_body().collect().await.context("reading the answer")?;
    let status = body.trailers().and_then(|trailers| trailers.get("grpc-status").cloned()).or(in_headers);
    match status.as_ref().map(|status| status.as_bytes()) {
        Some(b"0") => unframe(body.to_bytes()),
        other => bail!("grpc-status {:?}", other.map(String::from_utf8_lossy)),
    }
}

/// Waits for the store's greeting, sets and gets a value, closes its own half, and reads to the end.
pub(super) async fn use_store(address: SocketAddr) -> Result<String> {
    tokio::time::timeout(PATIENCE, use_store_within(address)).await.context("no answer in time")?
}

async fn use_store_within(address: SocketAddr) -> Result<String> {
    let (from, mut to) = connect(address).await?.into_split();
    let mut lines = BufReader::new(from).lines();
    let mut next = async || lines.next_line().await?.context("the store closed too early");
    let greeting = next().await?;
    to.write_all(b"set thread weft\nget thread\n").await?;
    let said = (next().await?, next().await?);
    if said != ("ok".to_owned(), "weft".to_owned()) {
        bail!("the store answered {said:?}");
    }
    to.shutdown().await?;
    let bye = next().await?;
    if bye != "bye 2" {
        bail!("the store ended with {bye:?}, so its half was not closed in order");
    }
    Ok(greeting)
}

/// The median time of `count` calls, in milliseconds.
pub(super) async fn median_ms(count: usize, mut call: impl AsyncFnMut() -> Result<()>) -> Result<f64> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        call().await?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times.get(times.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1000.0))
}
