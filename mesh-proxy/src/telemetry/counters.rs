//! Counters and gauges of the process that have no labels, or one with few values.
//!
//! They change with connections, retries and refusals, not with every request, so the threads share them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use weft_http::Malformed;
use weft_identity::RefusalReason;

use crate::record::Reporter;

/// What is counted up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    /// Attempts beyond the first.
    Retries,
    /// Retries that the budget did not allow.
    RetriesRefused,
    /// Endpoints ejected.
    Ejections,
    /// Connections without a request that were closed to make room or to free memory.
    IdleClosed,
    /// Connections that this proxy opened to endpoints or to the local application.
    UpstreamConnects,
    /// Such connections that failed.
    UpstreamConnectFailures,
    /// Endpoints that took no connection or whose host stopped acknowledging.
    Unheard,
}

/// What was refused, and the limit that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// A connection; `limits.connections`.
    Connections,
    /// A connection; the limit on open files.
    Files,
    /// A connection; `limits.memory`.
    ConnectionMemory,
    /// A handshake was given up for another one; `limits.handshakes`.
    Handshakes,
    /// A request; `limits.requests`.
    Requests,
    /// A request; `limits.memory`.
    RequestMemory,
    /// A DNS query; `limits.dns_queries`.
    DnsQueries,
    /// A DNS connection; `limits.dns_connections`.
    DnsConnections,
    /// An address for one more service; `limits.dns_addresses`.
    DnsAddresses,
}

/// How a DNS query ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DnsOutcome {
    /// A name of the mesh, which is there.
    Answered,
    /// A name of the mesh that nobody has.
    NxDomain,
    /// A name of the mesh of which nothing is known, or that gets no address.
    ServFail,
    /// A name of the mesh in a class that is not served.
    Refused,
    /// A resolver answered it.
    Forwarded,
    /// No resolver did.
    ForwardFailed,
    /// It was no query.
    Malformed,
}

/// What goes up and down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// Open connections from other proxies.
    TunnelConnections,
    /// Open connections from local callers.
    OutboundConnections,
    /// Open plaintext connections from outside the mesh.
    PermissiveConnections,
    /// Open connections to other proxies or to endpoints without one.
    UpstreamConnections,
    /// Open connections to the local application.
    AppConnections,
    /// Requests and TCP connections that are not finished.
    Active,
    /// Endpoints that are ejected now.
    Ejected,
}

impl Count {
    /// All, with name and help, in the order of the enum.
    pub(crate) const ALL: [(Self, &'static str, &'static str); 7] = [
        (Self::Retries, "weft_retries_total", "Attempts beyond the first."),
        (Self::RetriesRefused, "weft_retries_refused_total", "Retries that the retry budget did not allow."),
        (Self::Ejections, "weft_ejections_total", "Endpoints that were ejected for failing."),
        (
            Self::IdleClosed,
            "weft_idle_closed_total",
            "Connections without a request that were closed while memory was short.",
        ),
        (
            Self::UpstreamConnects,
            "weft_upstream_connects_total",
            "Connections opened to endpoints and to the local application.",
        ),
        (
            Self::UpstreamConnectFailures,
            "weft_upstream_connect_failures_total",
            "Connections to endpoints or the local application that failed.",
        ),
        (Self::Unheard, "weft_unheard_total", "Times that an endpoint was not heard any more."),
    ];
}

impl Refused {
    /// All, in the order of the enum: what, and by which limit.
    pub(super) const ALL: [(Self, &'static str, &'static str); 9] = [
        (Self::Connections, "connection", "connections"),
        (Self::Files, "connection", "files"),
        (Self::ConnectionMemory, "connection", "memory"),
        (Self::Handshakes, "handshake", "handshakes"),
        (Self::Requests, "request", "requests"),
        (Self::RequestMemory, "request", "memory"),
        (Self::DnsQueries, "dns_query", "dns_queries"),
        (Self::DnsConnections, "dns_connection", "dns_connections"),
        (Self::DnsAddresses, "dns_address", "dns_addresses"),
    ];
}

impl DnsOutcome {
    /// All, in the order of the enum, as the label has them.
    pub(super) const ALL: [(Self, &'static str); 7] = [
        (Self::Answered, "answered"),
        (Self::NxDomain, "nxdomain"),
        (Self::ServFail, "servfail"),
        (Self::Refused, "refused"),
        (Self::Forwarded, "forwarded"),
        (Self::ForwardFailed, "forward_failed"),
        (Self::Malformed, "malformed"),
    ];
}

impl Level {
    /// All, with name and help, in the order of the enum.
    pub(crate) const ALL: [(Self, &'static str, &'static str); 7] = [
        (Self::TunnelConnections, "weft_tunnel_connections", "Open connections from other proxies."),
        (Self::OutboundConnections, "weft_outbound_connections", "Open connections from local callers."),
        (
            Self::PermissiveConnections,
            "weft_permissive_connections",
            "Open plaintext connections from outside the mesh.",
        ),
        (Self::UpstreamConnections, "weft_upstream_connections", "Open connections to endpoints."),
        (Self::AppConnections, "weft_app_connections", "Open connections to the local application."),
        (Self::Active, "weft_active", "Requests and TCP connections in progress."),
        (
            Self::Ejected,
            "weft_ejected_endpoints",
            "Endpoints that are ejected or not heard now, summed over the workers.",
        ),
    ];
}

/// The values.
#[derive(Debug, Default)]
pub(super) struct Counters {
    counts: [AtomicU64; Count::ALL.len()],
    levels: [AtomicI64; Level::ALL.len()],
    by_limit: [AtomicU64; Refused::ALL.len()],
    dns: [AtomicU64; DnsOutcome::ALL.len()],
    /// Handshakes are rare and refused ones rarer; a lock is cheap enough.
    refusals: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    malformed: [PerKind; 2],
}

/// One counter for each [`Malformed`].
#[derive(Debug)]
struct PerKind(Box<[AtomicU64]>);

impl Default for PerKind {
    fn default() -> Self {
        Self(Malformed::ALL.iter().map(|_| AtomicU64::new(0)).collect())
    }
}

/// Which messages were malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    /// Of a caller.
    Request,
    /// Of an endpoint or of the local application.
    Response,
}

impl Message {
    /// In the log.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
        }
    }
}

impl Counters {
    pub(super) fn add(&self, count: Count, n: u64) {
        if let Some(cell) = self.counts.get(count as usize) {
            cell.fetch_add(n, Ordering::Relaxed);
        }
    }

    pub(super) fn change(&self, level: Level, by: i64) {
        if let Some(cell) = self.levels.get(level as usize) {
            cell.fetch_add(by, Ordering::Relaxed);
        }
    }

    pub(super) fn refused_by_limit(&self, refused: Refused) {
        if let Some(cell) = self.by_limit.get(refused as usize) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn by_limit(&self, refused: Refused) -> u64 {
        self.by_limit.get(refused as usize).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    pub(super) fn dns(&self, outcome: DnsOutcome) {
        if let Some(cell) = self.dns.get(outcome as usize) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn dns_of(&self, outcome: DnsOutcome) -> u64 {
        self.dns.get(outcome as usize).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    pub(super) fn refused(&self, reporter: Reporter, reason: RefusalReason) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        *refusals.entry((reporter.as_str(), reason.as_str())).or_default() += 1;
    }

    pub(super) fn malformed(&self, message: Message, kind: Malformed) {
        if let Some(cell) = self.malformed.get(message as usize).and_then(|per| per.0.get(kind as usize)) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The kinds that occurred, each with its number.
    pub(super) fn malformed_of(&self, message: Message) -> impl Iterator<Item = (Malformed, u64)> {
        let cells = self.malformed.get(message as usize).map(|per| &*per.0).unwrap_or_default();
        let counted =
            Malformed::ALL.iter().zip(cells).map(|(kind, cell)| (*kind, cell.load(Ordering::Relaxed)));
        counted.filter(|(_, n)| *n > 0)
    }

    pub(super) fn count(&self, count: Count) -> u64 {
        self.counts.get(count as usize).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    pub(super) fn level(&self, level: Level) -> i64 {
        self.levels.get(level as usize).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    pub(super) fn refusals(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
