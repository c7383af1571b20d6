//! Which endpoint gets the next request: synchronous, per thread, without locks.
//!
//! Power of two choices on a latency average that jumps up at once and sinks slowly (peak EWMA), times the requests
//! in flight. Weights shape who is a candidate, cost decides between the two. What a worker learns of an endpoint
//! stays on its thread: workers agree soon enough, and no request waits for another core.

pub(crate) mod budget;
pub(crate) mod cluster;
pub(crate) mod ewma;
mod near;
pub(crate) mod outlier;
pub(crate) mod target;
pub(crate) mod tiers;
