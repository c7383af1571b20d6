//! Streams that stay open for a whole test: numbered messages, each echoed before the next, and the pauses between.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::SinkExt;
use futures::channel::mpsc;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::Request;
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::http1;

/// What carries a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// An opaque TCP connection to `weft workload tcp`.
    Tcp,
    /// An upgraded HTTP/1.1 connection to `weft workload http`.
    Upgrade,
    /// Request and response bodies of one HTTP/2 stream.
    Http2,
}

/// Streams that run until they are stopped.
pub struct Streams {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    tally: Shared,
}

/// What came of them.
#[derive(Debug, Clone, Default)]
pub struct StreamTally {
    /// How many were opened.
    pub opened: u64,
    /// Echoed messages.
    pub messages: u64,
    /// Streams that could not be opened, broke, or lost or mixed up messages; each was opened again.
    pub broken: Vec<String>,
    /// Between sending a message and its echo.
    pub longest_pause: Duration,
}

/// Between two messages.
const EVERY: Duration = Duration::from_millis(50);
/// A stream on which nothing comes back for so long is broken.
const PATIENCE: Duration = Duration::from_secs(15);

impl Streams {
    /// Opens a stream of each kind to its address. One that has carried `most` messages ends and is opened anew.
    pub fn start(to: &[(Carrier, SocketAddr)], most: Option<u64>) -> Self {
        let (stop, _) = watch::channel(false);
        let tally = Shared::default();
        let mut tasks = JoinSet::new();
        for (carrier, address) in to {
            tasks.spawn(keep(*carrier, *address, most, stop.subscribe(), tally.clone()));
        }
        Self { tasks, stop, tally }
    }

    /// What has come of them so far.
    pub fn so_far(&self) -> StreamTally {
        self.tally.get().clone()
    }

    /// Ends them after their current message.
    pub async fn stop(mut self) -> StreamTally {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
        self.so_far()
    }
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<StreamTally>>);

impl Shared {
    fn get(&self) -> MutexGuard<'_, StreamTally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StreamTally {
    fn heard(&mut self, pause: Duration) {
        self.messages += 1;
        self.longest_pause = self.longest_pause.max(pause);
    }

    /// For a figure.
    pub fn words(&self) -> String {
        format!(
            "{} streams, {} messages, {} broken, longest pause {:.0} ms",
            self.opened,
            self.messages,
            self.broken.len(),
            self.longest_pause.as_secs_f64() * 1000.0
        )
    }
}

async fn keep(
    carrier: Carrier,
    address: SocketAddr,
    most: Option<u64>,
    stop: watch::Receiver<bool>,
    tally: Shared,
) {
    while !*stop.borrow() {
        let result = converse(carrier, address, most, &stop, &tally).await;
        if let Err(error) = result {
            tally.get().broken.push(format!("{carrier:?}: {error:#}"));
            tokio::time::sleep(EVERY).await;
        }
    }
}

async fn converse(
    carrier: Carrier,
    address: SocketAddr,
    most: Option<u64>,
    stop: &watch::Receiver<bool>,
    tally: &Shared,
) -> Result<()> {
    let mut wire =
        tokio::time::timeout(PATIENCE, Wire::open(carrier, address)).await.context("opening")??;
    tally.get().opened += 1;
    let mut number = 0;
    while !*stop.borrow() && most.is_none_or(|most| number < most) {
        let sent = Instant::now();
        let text = format!("message {number}");
        let echo = tokio::time::timeout(PATIENCE, wire.exchange(&text)).await;
        let echo = echo.with_context(|| format!("no echo of {text}"))?.with_context(|| text.clone())?;
        ensure!(echo == text, "{text} came back as {echo:?}");
        let pause = sent.elapsed();
        tally.get().heard(pause);
        number += 1;
        tokio::time::sleep(EVERY).await;
    }
    Ok(())
}

trait Both: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Both for T {}

/// An open stream.
enum Wire {
    Lines { io: BufReader<Box<dyn Both>>, prefix: &'static str },
    Body { to: mpsc::Sender<Result<Frame<Bytes>, std::convert::Infallible>>, from: Incoming, rest: Vec<u8> },
}

impl Wire {
    async fn open(carrier: Carrier, address: SocketAddr) -> Result<Self> {
        match carrier {
            Carrier::Tcp => {
                let mut io = BufReader::new(Box::new(TcpStream::connect(address).await?) as Box<dyn Both>);
                let mut greeting = String::new();
                io.read_line(&mut greeting).await?;
                ensure!(greeting.ends_with("ready\n"), "greeted with {greeting:?}");
                Ok(Self::Lines { io, prefix: "echo " })
            }
            Carrier::Upgrade => {
                let request = Request::get("/").header("host", "stream").header("connection", "upgrade");
                let response =
                    http1(address, request.header("upgrade", "echo").body(Full::default())?).await?;
                ensure!(response.status() == 101, "{}", response.status());
                let io = TokioIo::new(hyper::upgrade::on(response).await?);
                Ok(Self::Lines { io: BufReader::new(Box::new(io)), prefix: "" })
            }
            Carrier::Http2 => Self::body(address).await,
        }
    }

    async fn body(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        let (mut sender, driver) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        // One message is under way at a time.
        let (to, body) = mpsc::channel(1);
        let request = Request::post("http://stream/echo").body(StreamBody::new(body))?;
        let response = sender.send_request(request).await?;
        ensure!(response.status() == 200, "{}", response.status());
        Ok(Self::Body { to, from: response.into_body(), rest: Vec::new() })
    }

    async fn exchange(&mut self, text: &str) -> Result<String> {
        let line = format!("{text}\n");
        match self {
            Self::Lines { io, prefix } => {
                io.write_all(line.as_bytes()).await?;
                io.flush().await?;
                let mut answer = String::new();
                io.read_line(&mut answer).await?;
                let whole = answer.strip_suffix('\n').context("the stream ended")?;
                Ok(whole.strip_prefix(*prefix).unwrap_or(whole).to_owned())
            }
            Self::Body { to, from, rest } => {
                to.send(Ok(Frame::data(line.into()))).await.context("the request's body is refused")?;
                loop {
                    if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                        let line: Vec<u8> = rest.drain(..=end).collect();
                        return Ok(String::from_utf8_lossy(line.trim_ascii_end()).into_owned());
                    }
                    let frame = from.frame().await.context("the response ended")??;
                    rest.extend_from_slice(&frame.into_data().unwrap_or_default());
                }
            }
        }
    }
}
