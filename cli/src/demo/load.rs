//! Steady calls in the background of a scene: who answered, how fast, and what failed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::client::Http1;
use super::report::Event;

/// Clients at once, each with its own connection.
const CLIENTS: usize = 8;
/// Between two calls of one client: 8 clients make 400 calls a second.
const PAUSE: Duration = Duration::from_millis(20);

/// Load that runs until it is stopped.
pub(super) struct Load {
    clients: JoinSet<()>,
    stop: watch::Sender<bool>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    times: Vec<Duration>,
    answered_by: BTreeMap<String, u64>,
    failures: Vec<String>,
}

impl Load {
    /// Starts calling `address`; who answers at the end counts, also where the call is relayed.
    pub(super) fn start(address: SocketAddr, path: &'static str) -> Self {
        let (stop, _) = watch::channel(false);
        let seen = Arc::<Mutex<Seen>>::default();
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            clients.spawn(client(address, path, stop.subscribe(), seen.clone()));
        }
        Self { clients, stop, seen }
    }

    /// Calls answered by each version since the start.
    pub(super) fn answered_by(&self) -> BTreeMap<String, u64> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).answered_by.clone()
    }

    /// Lets the running calls end, and sums up.
    pub(super) async fn stop(mut self, during: &'static str) -> Event {
        self.stop.send_replace(true);
        while self.clients.join_next().await.is_some() {}
        let mut seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        seen.times.sort_unstable();
        let at = |share: usize| {
            let time = seen.times.get(seen.times.len() * share / 100);
            time.map_or(0.0, |time| time.as_secs_f64() * 1000.0)
        };
        Event::Load {
            during,
            calls: (seen.times.len() + seen.failures.len()) as u64,
            failed: seen.failures.len() as u64,
            p50_ms: at(50),
            p99_ms: at(99),
            first_failure: seen.failures.first().cloned(),
            answered_by: seen.answered_by,
        }
    }
}

async fn client(
    address: SocketAddr,
    path: &'static str,
    stop: watch::Receiver<bool>,
    seen: Arc<Mutex<Seen>>,
) {
    let mut http = Http1::new(address);
    while !*stop.borrow() {
        let start = Instant::now();
        let result = http.get(path).await;
        {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok(answer) => {
                    seen.times.push(start.elapsed());
                    *seen.answered_by.entry(answer.last().version).or_default() += 1;
                }
                Err(error) => seen.failures.push(format!("{error:#}")),
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
