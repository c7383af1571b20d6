//! The load: callers that have a request due at its own time, whether or not the one before has been answered.
//!
//! A request that waits for the one before counts from when it was due, so a stall shows in every request behind it. The
//! generator knows when it is itself too late: then the figure is refused.

mod grpc;
mod http1;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::task::JoinSet;

use crate::proxy::scenario::Wire;

/// Calls at a time on one HTTP/2 connection.
const STREAMS: u32 = 4;
/// A request that was sent so much after it was due, although its caller was free, is late by the generator's fault.
const LATE: Duration = Duration::from_millis(5);

/// What is to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Requests a second.
    pub(crate) rate: u32,
    /// Callers: connections of HTTP/1.1, streams of HTTP/2.
    pub(crate) callers: u32,
    /// For how long.
    pub(crate) duration: Duration,
}

/// What a run of the generator brought.
#[derive(Debug, Default)]
pub(crate) struct Run {
    /// Latencies of the answered requests, sorted.
    pub(crate) latencies: Vec<Duration>,
    /// Requests that were not answered with the right status, body and trailers.
    pub(crate) failed: u64,
    /// Why the first of them failed.
    pub(crate) complaint: Option<String>,
    /// Requests that were late by the generator's own fault.
    pub(crate) late: u64,
}

impl Run {
    /// A percentile in microseconds.
    pub(crate) fn percentile(&self, percent: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let at = (last as f64 * percent / 100.0).round() as usize;
        self.latencies.get(at).map_or(0.0, |latency| latency.as_secs_f64() * 1e6)
    }

    /// The share of requests that the generator sent late.
    pub(crate) fn late_share(&self) -> f64 {
        self.late as f64 / self.latencies.len().max(1) as f64
    }

    fn take(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.failed += other.failed;
        self.late += other.late;
        self.complaint = self.complaint.take().or(other.complaint);
    }
}

/// Runs `load` against `address`.
pub(crate) async fn run(address: SocketAddr, wire: Wire, load: Load) -> Result<Run> {
    let clients = connect(address, wire, load.callers).await?;
    let pause = Duration::from_secs(1) * load.callers / load.rate;
    let start = Instant::now() + Duration::from_millis(50);
    let mut callers = JoinSet::new();
    for (n, client) in (0..).zip(clients) {
        let first = start + pause * n / load.callers;
        callers.spawn(caller(client, first, pause, start + load.duration));
    }
    let mut all = Run::default();
    while let Some(caller) = callers.join_next().await {
        all.take(caller??);
    }
    all.latencies.sort_unstable();
    if all.latencies.is_empty() {
        bail!("no request was answered: {}", all.complaint.unwrap_or_default());
    }
    Ok(all)
}

async fn connect(address: SocketAddr, wire: Wire, callers: u32) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    while clients.len() < callers as usize {
        match wire {
            Wire::Http1 => clients.push(Client::Http1(http1::Client::connect(address).await?)),
            Wire::Grpc => {
                let client = grpc::Client::connect(address).await?;
                clients.extend((0..STREAMS).map(|_| Client::Grpc(client.clone())));
            }
        }
    }
    clients.truncate(callers as usize);
    Ok(clients)
}

enum Client {
    Http1(http1::Client),
    Grpc(grpc::Client),
}

impl Client {
    async fn exchange(&mut self) -> Result<()> {
        match self {
            Self::Http1(client) => client.exchange().await,
            Self::Grpc(client) => client.exchange().await,
        }
    }

    async fn again(&mut self) -> Result<()> {
        match self {
            Self::Http1(client) => client.again().await,
            Self::Grpc(client) => client.again().await,
        }
    }
}

async fn caller(mut client: Client, first: Instant, pause: Duration, end: Instant) -> Result<Run> {
    let (mut run, mut due) = (Run::default(), first);
    while due < end {
        // A request whose caller was free counts from when it was sent: the timer's grain of a millisecond is not the
        // candidate's. One that had to wait for the answer before counts from when it was due.
        let start = if Instant::now() < due {
            tokio::time::sleep_until(due.into()).await;
            run.late += u64::from(due.elapsed() > LATE);
            Instant::now()
        } else {
            due
        };
        match client.exchange().await {
            Ok(()) => run.latencies.push(start.elapsed()),
            Err(error) => {
                run.failed += 1;
                run.complaint.get_or_insert_with(|| format!("{error:#}"));
                client.again().await?;
            }
        }
        due += pause;
    }
    Ok(run)
}
