//! Every kind of traffic at a low rate: what works, and what breaks off in the middle.
//!
//! Whole requests must all succeed. What is broken off on purpose has no result; it is counted, so that a run shows that
//! it took place.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use weft_integration::{Load, http1};

use super::world::{Entries, World};

/// Everything that sends.
pub(crate) struct Mixed {
    steady: Load,
    stop: watch::Sender<bool>,
    others: JoinSet<()>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    grpc: AtomicU64,
    tcp: AtomicU64,
    upgrades: AtomicU64,
    aborted: AtomicU64,
    slow: AtomicU64,
    failures: std::sync::Mutex<Vec<String>>,
}

/// What came of it.
pub(crate) struct Outcome {
    steady: weft_integration::Outcome,
    counts: Arc<Counts>,
}

impl Mixed {
    pub(crate) fn start(world: &World) -> Self {
        let (stop, _) = watch::channel(false);
        let (entries, counts) = (world.entries(), Arc::<Counts>::default());
        let mut others = JoinSet::new();
        let kinds: [(Kind, u64); 5] =
            [(Kind::Grpc, 100), (Kind::Tcp, 50), (Kind::Upgrade, 100), (Kind::Abort, 50), (Kind::Slow, 200)];
        for (kind, pause) in kinds {
            let (stopped, counts) = (stop.subscribe(), counts.clone());
            others.spawn(async move {
                while !*stopped.borrow() {
                    if let Err(error) = kind.once(entries, &counts).await {
                        let mut failures =
                            counts.failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        failures.push(format!("{kind:?}: {error:#}"));
                    }
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
            });
        }
        Self { steady: Load::start(entries.http, "/", 4, 100), stop, others, counts }
    }

    /// Lets everything end.
    pub(crate) async fn stop(mut self) -> Outcome {
        self.stop.send_replace(true);
        while self.others.join_next().await.is_some() {}
        Outcome { steady: self.steady.stop().await, counts: self.counts }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counts { grpc, tcp, upgrades, aborted, slow, .. } = &*self.counts;
        write!(
            f,
            "{} HTTP/1.1 requests, {} gRPC calls, {} TCP connections, {} upgrades, {} broken off, {} slow readers",
            self.steady.answered,
            count(grpc),
            count(tcp),
            count(upgrades),
            count(aborted),
            count(slow)
        )
    }
}

impl Outcome {
    /// Whole requests all succeeded, and there were some of each kind.
    pub(crate) fn verdict(&self) -> Result<()> {
        let failures = self.counts.failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        ensure!(
            failures.is_empty(),
            "{} failed: {:?}",
            failures.len(),
            failures.iter().take(5).collect::<Vec<_>>()
        );
        ensure!(
            self.steady.failures.is_empty(),
            "{:?}",
            self.steady.failures.iter().take(5).collect::<Vec<_>>()
        );
        let Counts { grpc, tcp, upgrades, aborted, slow, .. } = &*self.counts;
        let all = [grpc, tcp, upgrades, aborted, slow].map(|counter| counter.load(Ordering::Relaxed));
        ensure!(all.iter().all(|n| *n > 5), "{self}");
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Grpc,
    Tcp,
    Upgrade,
    Abort,
    Slow,
}

impl Kind {
    async fn once(self, entries: Entries, counts: &Counts) -> Result<()> {
        let counter = match self {
            Self::Grpc => {
                grpc(entries.grpc).await?;
                &counts.grpc
            }
            Self::Tcp => {
                tcp(entries.tcp).await?;
                &counts.tcp
            }
            Self::Upgrade => {
                upgrade(entries.http).await?;
                &counts.upgrades
            }
            Self::Abort => {
                abort(entries).await?;
                &counts.aborted
            }
            Self::Slow => {
                slow_reader(entries.http).await?;
                &counts.slow
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn hello() -> Result<Request<Full<Bytes>>> {
    Ok(Request::post("http://greeter/weft.demo.v1.Greeter/Hello")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::from_static(&[0; 5])))?)
}

/// A connection with four calls at once; a fifth is reset.
async fn grpc(entry: SocketAddr) -> Result<()> {
    let io = TokioIo::new(TcpStream::connect(entry).await?);
    let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
    let driver = tokio::spawn(connection);
    let call = async || {
        let response = sender.clone().send_request(hello()?).await?;
        let headers = response.headers().clone();
        let body = response.into_body().collect().await?;
        let status = body.trailers().and_then(|trailers| trailers.get("grpc-status"));
        ensure!(status.is_some_and(|status| status == "0"), "grpc-status {status:?} {headers:?}");
        Ok(())
    };
    tokio::try_join!(call(), call(), call(), call())?;
    let reset = sender.clone().send_request(hello()?);
    _ = tokio::time::timeout(Duration::from_micros(300), reset).await;
    driver.abort();
    Ok(())
}

async fn tcp(entry: SocketAddr) -> Result<()> {
    let (from, mut to) = TcpStream::connect(entry).await?.into_split();
    let mut lines = BufReader::new(from).lines();
    ensure!(lines.next_line().await?.is_some_and(|line| line.ends_with("ready")), "no greeting");
    to.write_all(b"set a 1\n").await?;
    ensure!(lines.next_line().await?.as_deref() == Some("ok"), "not ok");
    to.shutdown().await?;
    ensure!(lines.next_line().await?.as_deref() == Some("bye 1"), "no bye");
    Ok(())
}

async fn upgrade(entry: SocketAddr) -> Result<()> {
    let request =
        Request::get("/").header("host", "api").header("connection", "upgrade").header("upgrade", "echo");
    let mut response = http1(entry, request.body(Full::default())?).await?;
    ensure!(response.status() == 101, "{}", response.status());
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await?);
    stream.write_all(b"over").await?;
    let mut back = [0; 4];
    stream.read_exact(&mut back).await?;
    // Not closed in order: the connection just goes.
    Ok(())
}

/// Heads without an end, bodies without an end, answers that nobody waits for.
async fn abort(entries: Entries) -> Result<()> {
    for bytes in [
        "GET / HTTP/1.1\r\nhost: a",
        "POST /echo HTTP/1.1\r\nhost: api\r\ncontent-length: 1000\r\n\r\nhalf",
        "GET /slow/200 HTTP/1.1\r\nhost: api\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(entries.http).await?;
        stream.write_all(bytes.as_bytes()).await?;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut stream = TcpStream::connect(entries.tcp).await?;
    stream.write_all(b"set").await?;
    Ok(())
}

/// A large answer, read in small pieces; every other one is left in the middle.
async fn slow_reader(entry: SocketAddr) -> Result<()> {
    const SIZE: usize = 512 * 1024;
    let mut stream = TcpStream::connect(entry).await?;
    let head =
        format!("POST /echo HTTP/1.1\r\nhost: api\r\nconnection: close\r\ncontent-length: {SIZE}\r\n\r\n");
    let (mut from, mut to) = stream.split();
    let write = async {
        to.write_all(head.as_bytes()).await?;
        to.write_all(&vec![b'x'; SIZE]).await
    };
    let leave = rand::random::<bool>();
    let read = async {
        let (mut seen, mut piece) = (0, vec![0; 32 * 1024]);
        loop {
            let n = from.read(&mut piece).await?;
            seen += n;
            if n == 0 && seen < SIZE {
                bail!("only {seen} of {SIZE} bytes came back");
            }
            if n == 0 || (leave && seen > SIZE / 2) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        read = read => read,
        // The whole was written and the answer is still being read: only an error ends it here.
        error = async { match write.await { Ok(()) => std::future::pending().await, Err(error) => error } } => {
            Err(error).context("writing")
        }
    }
}
