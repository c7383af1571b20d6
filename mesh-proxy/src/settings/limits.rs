//! Settings of how the data path behaves: time-outs, retries, ejection, locality, draining, bounds.
//!
//! Durations are written with a unit: `500ms`, `1s`, `5m`. All of these apply to every service alike; routes with
//! values of their own are the mesh's configuration, not settings.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use weft_model::{Locality, NodeName};
use weft_process::settings::{duration, optional_duration, optional_size};

/// `[timeouts]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TimeoutSettings {
    /// For a TCP connection to an endpoint or to the local application, per address tried.
    #[serde(deserialize_with = "duration")]
    pub(crate) connect: Duration,
    /// For a TLS handshake, on either side.
    #[serde(deserialize_with = "duration")]
    pub(crate) handshake: Duration,
    /// For the head of an HTTP/1 request, from its first byte.
    #[serde(deserialize_with = "duration")]
    pub(crate) header_read: Duration,
    /// From the end of the request's head to the head of the response. Default: none, as streams may take for ever.
    #[serde(deserialize_with = "optional_duration")]
    pub(crate) request: Option<Duration>,
    /// A TCP connection, tunnel or upgraded connection that carries nothing for so long is closed.
    #[serde(deserialize_with = "duration")]
    pub(crate) idle: Duration,
    /// An unused pooled connection is closed.
    #[serde(deserialize_with = "duration")]
    pub(crate) pool_idle: Duration,
    /// A pooled connection takes no new work after so long (± 20 %), so that renewed certificates and new
    /// addresses take effect.
    #[serde(deserialize_with = "duration")]
    pub(crate) connection_age: Duration,
    /// How long the first bytes of a connection are waited for where the protocol is not declared.
    #[serde(deserialize_with = "duration")]
    pub(crate) detect: Duration,
}

/// `[retries]`: only what the endpoint certainly did not process is tried again: failed connections and refused streams.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RetrySettings {
    /// Attempts beyond the first. 0: never.
    pub(crate) attempts: u32,
    /// Retries may be this share of the requests, in percent …
    pub(crate) budget_percent: u32,
    /// … or this many a second where that is more.
    pub(crate) min_per_second: u32,
}

/// `[outlier]`: passive ejection.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct OutlierSettings {
    /// Failures in a row (no TLS, reset, 502, 503, 504) that eject an endpoint. 0: never.
    pub(crate) consecutive_failures: u32,
    /// For how long the first time; the n-th time n times as long.
    #[serde(deserialize_with = "duration")]
    pub(crate) base_ejection: Duration,
    /// At most this share of a service's endpoints is ejected at once.
    pub(crate) max_ejected_percent: u32,
}

/// `[locality]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LocalitySettings {
    /// Where this proxy runs: `region/zone/subzone`.
    #[serde(rename = "self")]
    pub(crate) own: Locality,
    /// The node that this proxy runs on, as the registry names it: `kubernetes/prod/worker-1`.
    pub(crate) node: Option<NodeName>,
    /// The addresses of this proxy's own workload, with commas between them. What is not set here is what the mesh says of
    /// the workload that has them.
    #[serde(deserialize_with = "addresses")]
    pub(crate) addresses: Vec<IpAddr>,
    /// Whether the nearest endpoints that take work get all of it.
    pub(crate) prefer: bool,
}

/// Addresses in one text, as Kubernetes gives a pod its own.
fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let read = |one: &str| {
        let wrong =
            || de::Error::custom(format!("{one:?} is no IP address; expected some with commas between"));
        one.trim().parse::<IpAddr>().map_err(|_| wrong())
    };
    text.split(',').filter(|one| !one.trim().is_empty()).map(read).collect()
}

/// `[drain]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DrainSettings {
    /// New connections are still taken for so long after the signal, while callers learn of it.
    #[serde(deserialize_with = "duration")]
    pub(crate) grace: Duration,
    /// What is not finished by then, from the signal, is cut.
    #[serde(deserialize_with = "duration")]
    pub(crate) deadline: Duration,
}

/// `[limits]`: a worker beyond a bound refuses and says so; it never queues without end.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LimitSettings {
    /// Open connections from callers and from the local application, a worker.
    pub(crate) connections: usize,
    /// TLS handshakes of callers that are not finished, a worker.
    pub(crate) handshakes: usize,
    /// Requests in progress, a worker.
    pub(crate) requests: usize,
    /// Bytes of memory of the whole process. Absent: what its control groups allow, else 1 GiB.
    #[serde(deserialize_with = "optional_size")]
    pub(crate) memory: Option<u64>,
    /// Concurrent streams on one connection that is accepted.
    pub(crate) streams: u32,
    /// Bytes of a request's or response's head.
    pub(crate) head_bytes: u32,
    /// Connections to one endpoint, a worker.
    pub(crate) endpoint_connections: usize,
    /// Services that are subscribed to on demand (beside the declared upstreams).
    pub(crate) on_demand_services: usize,
    /// Addresses of captured connections whose owner is followed.
    pub(crate) on_demand_addresses: usize,
    /// DNS queries that are not answered yet.
    pub(crate) dns_queries: usize,
    /// Connections of DNS over TCP.
    pub(crate) dns_connections: usize,
    /// Services that get a virtual address. None is ever taken back.
    pub(crate) dns_addresses: usize,
}

impl Default for TimeoutSettings {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            handshake: Duration::from_secs(5),
            header_read: Duration::from_secs(10),
            request: None,
            idle: Duration::from_secs(3600),
            pool_idle: Duration::from_secs(90),
            connection_age: Duration::from_secs(3600),
            detect: Duration::from_millis(50),
        }
    }
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self { attempts: 2, budget_percent: 20, min_per_second: 10 }
    }
}

impl Default for OutlierSettings {
    fn default() -> Self {
        Self { consecutive_failures: 5, base_ejection: Duration::from_secs(10), max_ejected_percent: 50 }
    }
}

impl Default for DrainSettings {
    fn default() -> Self {
        Self { grace: Duration::from_millis(500), deadline: Duration::from_secs(30) }
    }
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            connections: 10_000,
            handshakes: 2_048,
            requests: 10_000,
            memory: None,
            streams: 1_000,
            head_bytes: 64 * 1024,
            endpoint_connections: 1_024,
            on_demand_services: 1_000,
            // Each name of the outside world is some; one costs 200 bytes here and at the control plane.
            on_demand_addresses: 4_096,
            // Each of a forwarded query has a socket.
            dns_queries: 1_000,
            dns_connections: 100,
            dns_addresses: 4_096,
        }
    }
}
