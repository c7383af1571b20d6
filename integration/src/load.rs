//! Steady HTTP/1.1 calls in the background of a test: what was answered, by whom, and what failed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Answer;

/// Load that runs until it is stopped.
pub struct Load {
    clients: JoinSet<()>,
    stop: watch::Sender<bool>,
    outcome: Arc<Mutex<Outcome>>,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Calls that were answered with 200.
    pub answered: u64,
    /// By version.
    pub by_version: BTreeMap<String, u64>,
    /// Everything else.
    pub failures: Vec<String>,
}

impl Load {
    /// Starts `clients` keep-alive clients that share `per_second` calls to `path`.
    pub fn start(address: SocketAddr, path: &str, clients: u32, per_second: u32) -> Self {
        let (stop, _) = watch::channel(false);
        let outcome = Arc::<Mutex<Outcome>>::default();
        let mut set = JoinSet::new();
        let pause = Duration::from_secs(1) * clients / per_second;
        for _ in 0..clients {
            set.spawn(client(address, path.to_owned(), pause, stop.subscribe(), outcome.clone()));
        }
        Self { clients: set, stop, outcome }
    }

    /// What has come of it so far.
    pub fn so_far(&self) -> Outcome {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets running calls end, and says what came of it.
    pub async fn stop(mut self) -> Outcome {
        self.stop.send_replace(true);
        while self.clients.join_next().await.is_some() {}
        self.so_far()
    }
}

async fn client(
    address: SocketAddr,
    path: String,
    pause: Duration,
    stop: watch::Receiver<bool>,
    outcome: Arc<Mutex<Outcome>>,
) {
    let mut connection = None;
    while !*stop.borrow() {
        let due = Instant::now() + pause;
        let result = call(address, &path, &mut connection).await;
        {
            let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok(answer) => {
                    outcome.answered += 1;
                    *outcome.by_version.entry(answer.version).or_default() += 1;
                }
                Err(error) => {
                    connection = None;
                    outcome.failures.push(format!("{error:#}"));
                }
            }
        }
        tokio::time::sleep_until(due.into()).await;
    }
}

async fn call(
    address: SocketAddr,
    path: &str,
    connection: &mut Option<SendRequest<Full<Bytes>>>,
) -> anyhow::Result<Answer> {
    if connection.as_ref().is_none_or(SendRequest::is_closed) {
        let (sender, driver) = http1::handshake(TokioIo::new(TcpStream::connect(address).await?)).await?;
        tokio::spawn(driver);
        *connection = Some(sender);
    }
    let Some(sender) = connection else { anyhow::bail!("no connection") };
    sender.ready().await?;
    let request = Request::get(path).header("host", "load").body(Full::default())?;
    let response = tokio::time::timeout(Duration::from_secs(10), sender.send_request(request)).await??;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    anyhow::ensure!(status == 200, "{status}: {}", String::from_utf8_lossy(&body));
    Ok(serde_json::from_slice(&body)?)
}
