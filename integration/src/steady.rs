//! An open loop of requests: each is sent when it is due, whether or not the ones before are answered.
//!
//! A closed loop would send nothing while the mesh hangs, and so not see it. Latency counts from when a request was due.
//! Every fifth request is HTTP/2 on one shared connection, the others are HTTP/1.1 on as many as it takes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper::{Method, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::Answer;

/// An open loop that runs until it is stopped.
pub struct Steady {
    client: Arc<Client>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Calls that were answered with 200.
    pub answered: u64,
    /// By version.
    pub by_version: BTreeMap<String, u64>,
    /// Calls that failed or took longer than a second.
    pub troubles: Vec<Trouble>,
    /// When each call was due, and the microseconds from then to the end of its answer.
    latencies: Vec<(Duration, u32)>,
}

/// A call that one would complain about.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// When it was due, since the start.
    pub due: Duration,
    /// How long it took.
    pub took: Duration,
    /// What went wrong; `None` where it was only slow.
    pub error: Option<String>,
}

/// Slower is a trouble.
const SLOW: Duration = Duration::from_secs(1);
/// Slower is a failure.
const PATIENCE: Duration = Duration::from_secs(15);
/// Which part of the requests is HTTP/2: one of so many.
const HTTP2: u64 = 5;

impl Steady {
    /// Starts `per_second` GET requests to `path`.
    pub fn start(address: SocketAddr, path: &str, per_second: u32) -> Self {
        Self::with(address, Method::GET, path, per_second)
    }

    /// The same with another method; POST has a body, so that it is not repeatable.
    pub fn with(address: SocketAddr, method: Method, path: &str, per_second: u32) -> Self {
        let client = Arc::new(Client {
            address,
            method,
            path: path.to_owned(),
            started: Instant::now(),
            waiting: Mutex::default(),
            shared: tokio::sync::Mutex::default(),
            tally: Mutex::default(),
        });
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(run(client.clone(), per_second, stopped));
        Self { client, stop, task }
    }

    /// When it was started.
    pub fn started(&self) -> Instant {
        self.client.started
    }

    /// What has come of it so far.
    pub fn so_far(&self) -> Tally {
        self.client.tally().clone()
    }

    /// How many calls were answered so far.
    pub fn answered(&self) -> u64 {
        self.client.tally().answered
    }

    /// Lets running calls end, and says what came of it.
    pub async fn stop(self) -> Tally {
        self.stop.send_replace(true);
        // An error is a panic, which shows as calls that are missing.
        let _ = self.task.await;
        self.client.tally().clone()
    }
}

impl Tally {
    /// The calls that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Trouble> {
        self.troubles.iter().filter(|trouble| trouble.error.is_some())
    }

    /// The slowest of the calls that were due then.
    pub fn slowest_due(&self, when: Range<Duration>) -> Duration {
        let then = self.latencies.iter().filter(|(due, _)| when.contains(due));
        Duration::from_micros(then.map(|(_, took)| u64::from(*took)).max().unwrap_or(0))
    }

    /// For a figure: how many, how many failed, how long they took.
    pub fn words(&self) -> String {
        let mut sorted: Vec<u32> = self.latencies.iter().map(|(_, took)| *took).collect();
        sorted.sort_unstable();
        let at = |part: f64| {
            let index = (sorted.len() as f64 * part) as usize;
            f64::from(sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0)) / 1000.0
        };
        let (failed, slow) = (self.failures().count(), self.troubles.len());
        format!(
            "{} requests, {failed} failed, {} over 1 s, p50 {:.1} ms, p99 {:.1} ms, slowest {:.0} ms",
            self.answered + failed as u64,
            slow - failed,
            at(0.5),
            at(0.99),
            at(1.0),
        )
    }
}

async fn run(client: Arc<Client>, per_second: u32, stop: watch::Receiver<bool>) {
    let mut calls = JoinSet::new();
    let mut tick = tokio::time::interval(Duration::from_millis(2));
    let mut sent = 0u64;
    while !*stop.borrow() {
        tick.tick().await;
        let due = client.started.elapsed().as_secs_f64() * f64::from(per_second);
        while (sent as f64) < due {
            let at = client.started + Duration::from_secs_f64(sent as f64 / f64::from(per_second));
            calls.spawn(client.clone().one(sent.is_multiple_of(HTTP2), at));
            sent += 1;
        }
        while calls.try_join_next().is_some() {}
    }
    while calls.join_next().await.is_some() {}
}

type Http1 = http1::SendRequest<Full<Bytes>>;
type Http2 = http2::SendRequest<Full<Bytes>>;

struct Client {
    address: SocketAddr,
    method: Method,
    path: String,
    started: Instant,
    waiting: Mutex<Vec<Http1>>,
    shared: tokio::sync::Mutex<Option<Http2>>,
    tally: Mutex<Tally>,
}

impl Client {
    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn one(self: Arc<Self>, http2: bool, at: Instant) {
        let called = async { if http2 { self.http2().await } else { self.http1().await } };
        let result = tokio::time::timeout(PATIENCE, called).await;
        let took = at.elapsed();
        let due = at - self.started;
        let mut tally = self.tally();
        tally.latencies.push((due, u32::try_from(took.as_micros()).unwrap_or(u32::MAX)));
        let error = match result {
            Ok(Ok(answer)) => {
                tally.answered += 1;
                *tally.by_version.entry(answer.version).or_default() += 1;
                None
            }
            Ok(Err(error)) => Some(format!("{error:#}")),
            Err(_elapsed) => Some(format!("no answer within {PATIENCE:?}")),
        };
        if error.is_some() || took > SLOW {
            tally.troubles.push(Trouble { due, took, error });
        }
    }

    fn request(&self, uri: &str) -> Result<Request<Full<Bytes>>> {
        let body = if self.method == Method::POST { Bytes::from_static(b"body") } else { Bytes::new() };
        Ok(Request::builder().method(&self.method).uri(uri).header("host", "load").body(Full::new(body))?)
    }

    async fn http1(&self) -> Result<Answer> {
        let mut sender = match self.take() {
            Some(sender) => sender,
            None => {
                let stream = TcpStream::connect(self.address).await.context("connecting")?;
                stream.set_nodelay(true)?;
                let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
                tokio::spawn(driver);
                sender
            }
        };
        sender.ready().await?;
        let response = sender.send_request(self.request(&self.path)?).await?;
        let answer = read(response).await?;
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        Ok(answer)
    }

    fn take(&self) -> Option<Http1> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| waiting.pop()).find(|sender| !sender.is_closed())
    }

    async fn http2(&self) -> Result<Answer> {
        let mut sender = self.connection().await?;
        let request = self.request(&format!("http://load{}", self.path))?;
        read(sender.send_request(request).await?).await
    }

    async fn connection(&self) -> Result<Http2> {
        let mut shared = self.shared.lock().await;
        if let Some(sender) = shared.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let stream = TcpStream::connect(self.address).await.context("connecting")?;
        stream.set_nodelay(true)?;
        let (sender, driver) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        *shared = Some(sender.clone());
        Ok(sender)
    }
}

async fn read(response: hyper::Response<hyper::body::Incoming>) -> Result<Answer> {
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    ensure!(status == 200, "{status}: {}", String::from_utf8_lossy(&body));
    Ok(serde_json::from_slice(&body)?)
}
