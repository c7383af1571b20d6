//! What is remembered of one request or connection: the input of metrics and of the access log.
//!
//! The data path fills a [`Record`] and hands it to `Telemetry` once, at the end. Nothing is formatted here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use weft_model::{InstanceId, ServiceKey, SpiffeId};

/// Which side of a call this proxy was on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Reporter {
    /// The caller's proxy.
    Source,
    /// The callee's proxy.
    Destination,
}

impl Reporter {
    /// The value of the metrics' label `reporter`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

/// What was spoken with the application on this proxy's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum RequestProtocol {
    Http1,
    Http2,
    Grpc,
    Tcp,
}

impl RequestProtocol {
    /// The value of the metrics' label `request_protocol`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
        }
    }
}

/// Why the proxy itself made a failure. The letters are Envoy's where the meaning is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ResponseFlag {
    /// NR: no such service or route.
    NoRoute,
    /// UH: the service has no endpoint that may be used.
    NoHealthyUpstream,
    /// NLE (ours): the service is for callers of its endpoints' own nodes, and none is on this proxy's.
    NoLocalEndpoint,
    /// UF: no connection to any endpoint that was tried.
    UpstreamConnectionFailure,
    /// UC: the connection broke before the response was complete.
    UpstreamConnectionTermination,
    /// UR: the endpoint refused or reset the stream.
    UpstreamRemoteReset,
    /// URX: more retries were due than the budget or the limit allows.
    RetryLimitExceeded,
    /// UT: a time-out.
    UpstreamTimeout,
    /// UO: a limit of connections or requests is reached.
    UpstreamOverflow,
    /// DC: the client went away.
    DownstreamConnectionTermination,
    /// DPE: the client broke its protocol.
    DownstreamProtocolError,
    /// UPE: the endpoint broke its protocol.
    UpstreamProtocolError,
    /// UAEX: refused by authorisation.
    Unauthorized,
    /// UTI (ours): the endpoint proved another identity than the control plane says, or none.
    UpstreamIdentity,
    /// OM: this proxy has as much to do as it may.
    Overloaded,
    /// LH (ours): cut by this proxy, whose drain deadline is over.
    Draining,
}

impl ResponseFlag {
    /// Every flag, for the docs' test.
    pub(crate) const ALL: [Self; 16] = [
        Self::NoRoute,
        Self::NoHealthyUpstream,
        Self::NoLocalEndpoint,
        Self::UpstreamConnectionFailure,
        Self::UpstreamConnectionTermination,
        Self::UpstreamRemoteReset,
        Self::RetryLimitExceeded,
        Self::UpstreamTimeout,
        Self::UpstreamOverflow,
        Self::DownstreamConnectionTermination,
        Self::DownstreamProtocolError,
        Self::UpstreamProtocolError,
        Self::Unauthorized,
        Self::UpstreamIdentity,
        Self::Overloaded,
        Self::Draining,
    ];

    /// The letters in metrics and access logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::NoRoute => "NR",
            Self::NoHealthyUpstream => "UH",
            Self::NoLocalEndpoint => "NLE",
            Self::UpstreamConnectionFailure => "UF",
            Self::UpstreamConnectionTermination => "UC",
            Self::UpstreamRemoteReset => "UR",
            Self::RetryLimitExceeded => "URX",
            Self::UpstreamTimeout => "UT",
            Self::UpstreamOverflow => "UO",
            Self::DownstreamConnectionTermination => "DC",
            Self::DownstreamProtocolError => "DPE",
            Self::UpstreamProtocolError => "UPE",
            Self::Unauthorized => "UAEX",
            Self::UpstreamIdentity => "UTI",
            Self::Overloaded => "OM",
            Self::Draining => "LH",
        }
    }
}

/// The callee, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Destination {
    pub(crate) service: ServiceKey,
    /// The endpoint that was picked; on the callee's side its own workload, where it knows it.
    pub(crate) workload: Option<InstanceId>,
    pub(crate) identity: Option<SpiffeId>,
    pub(crate) app: Arc<str>,
    pub(crate) version: Arc<str>,
}

/// One request (HTTP) or connection (TCP), at its end.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) reporter: Reporter,
    pub(crate) started: SystemTime,
    /// Until the last byte of the response, or of the connection.
    pub(crate) duration: Duration,
    /// HTTP only; meaningless for TCP. These four share the request's buffers: no copy on the data path.
    pub(crate) method: http::Method,
    pub(crate) uri: http::Uri,
    /// `Host` or `:authority`.
    pub(crate) authority: Option<http::HeaderValue>,
    pub(crate) request_id: Option<http::HeaderValue>,
    pub(crate) user_agent: Option<http::HeaderValue>,
    pub(crate) protocol: RequestProtocol,
    /// Status given to the client; 0 for TCP or where the client left before there was one.
    pub(crate) status: u16,
    pub(crate) grpc_status: Option<u16>,
    pub(crate) flag: Option<ResponseFlag>,
    /// One sentence on the flag: what failed, with which address and error. Empty without a flag.
    pub(crate) detail: String,
    /// The caller's identity: proved by mTLS at the destination, this proxy's own at the source.
    pub(crate) source: Option<SpiffeId>,
    pub(crate) destination: Option<Arc<Destination>>,
    pub(crate) upstream: Option<SocketAddr>,
    pub(crate) downstream: Option<SocketAddr>,
    /// From the client.
    pub(crate) bytes_received: u64,
    /// To the client.
    pub(crate) bytes_sent: u64,
    /// Attempts beyond the first.
    pub(crate) retries: u32,
    /// Whether the hop between the proxies was mTLS. `None` at the source before an endpoint was picked.
    pub(crate) mtls: Option<bool>,
}
