//! A thin proxy: the real core of the delta protocol's client on one connection, and nothing behind it.
//!
//! So every ACK is one that a proxy would have sent, after the resource was decoded and kept. One task each. What it is
//! told of the hot endpoint is reported with the time at which it was applied.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use prost::Message as _;
use rustls::ClientConfig;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use weft_model::{InstanceId, ServiceKey};
use weft_proto::discovery::DeltaDiscoveryResponse;
use weft_xds_client::{Client, Update};

use super::wire::{self, Counts, Messages};

const DISCOVERY: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// What a client was told of an endpoint or service that is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) client: usize,
    /// The endpoint's weight; `None` when it is gone.
    pub(super) weight: Option<u32>,
    pub(super) at: Instant,
}

/// Who a client is and what it looks for.
#[derive(Clone)]
pub(super) struct Who {
    pub(super) number: usize,
    pub(super) address: SocketAddr,
    pub(super) tls: Arc<ClientConfig>,
    /// The service whose first endpoint is reported.
    pub(super) hot: ServiceKey,
    /// The id of that endpoint.
    pub(super) endpoint: InstanceId,
    pub(super) reports: mpsc::Sender<Seen>,
}

/// A client that follows.
pub(super) struct Running {
    pub(super) counts: Arc<Counts>,
    /// Ends with the core, which still holds everything, and why the stream ended.
    pub(super) task: JoinHandle<(Client, String)>,
}

impl Running {
    /// Starts the client: connects until it can, as a proxy does, and follows until the stream ends.
    pub(super) fn start(who: Who, core: Client) -> Self {
        let counts = Arc::new(Counts::default());
        let task = tokio::spawn(run(who, core, Arc::clone(&counts)));
        Self { counts, task }
    }
}

/// A core that wants these services and holds nothing.
pub(super) fn core(node: &str, services: impl IntoIterator<Item = ServiceKey>) -> Client {
    let mut client = Client::new(node, "weft-bench/0");
    for service in services {
        // Not connected: the stream asks when it opens.
        let requests = client.subscribe(service);
        debug_assert!(requests.is_empty());
    }
    client
}

async fn run(who: Who, mut core: Client, counts: Arc<Counts>) -> (Client, String) {
    let why = match connect(&who, &counts).await {
        Ok(connected) => match follow(&who, &mut core, connected, &counts).await {
            Ok(never) => match never {},
            Err(error) => format!("{error:#}"),
        },
        Err(error) => format!("{error:#}"),
    };
    core.on_disconnected();
    (core, why)
}

type Connected = (h2::client::SendRequest<bytes::Bytes>, h2::client::Connection<wire::Io, bytes::Bytes>);

/// Tries again while nobody listens: a control plane that restarts is away for a moment.
async fn connect(who: &Who, counts: &Counts) -> Result<Connected> {
    let start = Instant::now();
    loop {
        let attempt = wire::connect(who.address, Arc::clone(&who.tls), counts).await;
        let refused = |error: &anyhow::Error| {
            let io = error.downcast_ref::<std::io::Error>();
            io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused)
        };
        match attempt {
            Err(error) if refused(&error) && start.elapsed() < AWAY_AT_MOST => {
                tokio::time::sleep(TRY_AGAIN).await;
            }
            done => return done,
        }
    }
}

async fn follow(
    who: &Who,
    core: &mut Client,
    (mut send, connection): Connected,
    counts: &Counts,
) -> Result<std::convert::Infallible> {
    let exchange = async {
        let (response, mut requests) = wire::call(&mut send, DISCOVERY)?;
        for request in core.on_connected() {
            wire::send(&mut requests, &request, false)?;
        }
        let mut messages = Messages::of(response.await.context("opening the stream")?)?;
        loop {
            let message = messages.next(counts).await?;
            let response = DeltaDiscoveryResponse::decode(message)?;
            let said = response.resources.len() + response.removed_resources.len();
            counts.resources.fetch_add(said as u64, Relaxed);
            let applied = core.on_response(response);
            ensure!(applied.refused.is_empty(), "refused: {:?}", applied.refused);
            report(who, &applied.updates)?;
            wire::send(&mut requests, &applied.request, false)?;
        }
    };
    tokio::select! {
        ended = exchange => ended,
        ended = connection => bail!("the connection ended: {ended:?}"),
    }
}

fn report(who: &Who, updates: &[Update]) -> Result<()> {
    for update in updates {
        let weight = match update {
            Update::ServicePresent { service, workloads } if service.key == who.hot => {
                workloads.get(&who.endpoint).map(|workload| workload.weight)
            }
            _ => continue,
        };
        let seen = Seen { client: who.number, weight, at: Instant::now() };
        who.reports.try_send(seen).context("more reports than anybody waits for")?;
    }
    Ok(())
}

const TRY_AGAIN: std::time::Duration = std::time::Duration::from_millis(20);
const AWAY_AT_MOST: std::time::Duration = std::time::Duration::from_secs(30);
