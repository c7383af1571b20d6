//! What is counted while it happens; `admin/metrics.rs` gives it names.

use std::time::Duration;

pub(crate) use weft_process::counters::{Counter, Histogram, Reasons};

/// Counts of this process.
#[derive(Debug)]
pub(crate) struct Counters {
    /// Responses sent to proxies.
    pub(crate) responses: Counter,
    /// Resources in them.
    pub(crate) resources: Counter,
    /// Removals in them.
    pub(crate) removals: Counter,
    /// Acknowledgements.
    pub(crate) acks: Counter,
    /// Refusals.
    pub(crate) nacks: Counter,
    /// Streams that were opened.
    pub(crate) streams: Counter,
    /// Streams that were refused or ended for something the client did, by [`REASONS`].
    pub(crate) refused_streams: Reasons,
    /// From a registry's event to the acknowledgement of a proxy that it concerns.
    pub(crate) convergence: Histogram,
    /// Pods that the webhook was asked about, by [`VERDICTS`].
    pub(crate) injections: Reasons,
    /// From a review's last byte to its answer.
    pub(crate) injecting: Histogram,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            responses: Counter::default(),
            resources: Counter::default(),
            removals: Counter::default(),
            acks: Counter::default(),
            nacks: Counter::default(),
            streams: Counter::default(),
            refused_streams: Reasons::new(REASONS),
            convergence: Histogram::new(&BOUNDS),
            injections: Reasons::new(VERDICTS),
            injecting: Histogram::new(&INJECTION_BOUNDS),
        }
    }
}

/// Why a stream is refused or ended.
pub(crate) const REASONS: &[&str] = &[
    "no_certificate",
    "certificate_over",
    "another_identity",
    "too_many_streams",
    "too_many_of_identity",
    "too_fast",
    "expelled_before",
    "no_request",
    "not_acknowledged",
    "not_read",
    "message",
    "limit",
    "protocol",
];

/// Convergence is some milliseconds when all is well and seconds when a proxy is far away or slow.
const BOUNDS: [Duration; 11] = [
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// What the webhook says to a pod.
pub(crate) const VERDICTS: &[&str] = &["injected", "skipped", "not_a_pod", "refused", "unreadable"];

/// A pod takes a fraction of a millisecond.
const INJECTION_BOUNDS: [Duration; 6] = [
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(10),
];
