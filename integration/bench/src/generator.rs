//! The load: HTTP/1.1 over keep-alive connections, each request due at its own time.
//!
//! A request that waits for the one before counts from when it was due, so a stall shows in every request behind it. The
//! generator knows when it is itself too late: then the figure is refused.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::backend::BODY;

/// What a run of the generator brought.
#[derive(Debug, Default)]
pub(crate) struct Run {
    /// Latencies of the answered requests, sorted.
    pub(crate) latencies: Vec<Duration>,
    /// Requests that were not answered with 200 and the right body.
    pub(crate) failed: u64,
    /// How late requests were sent although their connection was free: the generator's own fault, worst case.
    pub(crate) own_lateness: Duration,
}

impl Run {
    /// A percentile in microseconds.
    pub(crate) fn percentile(&self, percent: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let at = (last as f64 * percent / 100.0).round() as usize;
        self.latencies.get(at).map_or(0.0, |latency| latency.as_secs_f64() * 1e6)
    }
}

/// Runs `rate` requests a second for `duration` over `connections`.
pub(crate) async fn run(address: SocketAddr, rate: u32, connections: u32, duration: Duration) -> Result<Run> {
    let mut clients = JoinSet::new();
    let pause = Duration::from_secs(1) * connections / rate;
    let start = Instant::now() + Duration::from_millis(50);
    for n in 0..connections {
        let first = start + pause * n / connections;
        clients.spawn(client(address, first, pause, start + duration));
    }
    let mut all = Run::default();
    while let Some(client) = clients.join_next().await {
        let run = client??;
        all.latencies.extend(run.latencies);
        all.failed += run.failed;
        all.own_lateness = all.own_lateness.max(run.own_lateness);
    }
    all.latencies.sort_unstable();
    if all.latencies.is_empty() {
        bail!("no request was answered");
    }
    Ok(all)
}

async fn client(address: SocketAddr, first: Instant, pause: Duration, end: Instant) -> Result<Run> {
    let mut stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
    stream.set_nodelay(true)?;
    let (mut run, mut due, mut buffer) = (Run::default(), first, Vec::with_capacity(4096));
    while due < end {
        // A request whose connection was free counts from when it was sent: the timer's grain of a millisecond is not the
        // candidate's. One that had to wait for the answer before counts from when it was due.
        let start = if Instant::now() < due {
            tokio::time::sleep_until(due.into()).await;
            run.own_lateness = run.own_lateness.max(due.elapsed());
            Instant::now()
        } else {
            due
        };
        match exchange(&mut stream, &mut buffer).await {
            Ok(()) => run.latencies.push(start.elapsed()),
            Err(_) => {
                run.failed += 1;
                stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
            }
        }
        due += pause;
    }
    Ok(run)
}

async fn exchange(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<()> {
    stream
        .write_all(
            b"GET /bench HTTP/1.1\r\nhost: bench.weft\r\nuser-agent: weft-bench\r\naccept: */*\r\n\r\n",
        )
        .await?;
    buffer.clear();
    let body = loop {
        if stream.read_buf(buffer).await? == 0 {
            bail!("the connection ended");
        }
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
    };
    if !buffer.starts_with(b"HTTP/1.1 200") {
        bail!("not 200");
    }
    while buffer.len() < body + BODY.len() {
        if stream.read_buf(buffer).await? == 0 {
            bail!("the body ended");
        }
    }
    if buffer.get(body..) != Some(BODY) {
        bail!("not the right body");
    }
    Ok(())
}
