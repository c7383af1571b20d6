//! What is published, and the channels it is published on.
//!
//! A [`Publication`] is one value: snapshot and resources of one moment. A watch channel carries it, so that value
//! and nudge can't differ and a slow reader skips to the newest. The reports on registries have a channel of their
//! own: they change at another pace, and no proxy need be woken for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;
use weft_model::{RegistryId, Snapshot};
use weft_registry::Freshness;

/// The mesh's state as it is served.
#[derive(Debug, Clone)]
pub(crate) struct Publication {
    /// For the admin endpoint.
    pub(crate) snapshot: Snapshot,
    /// For the proxies; of the same snapshot.
    pub(crate) resources: weft_xds::Published,
    /// When the oldest of the changes in it arrived: convergence is measured from here.
    pub(crate) since: Instant,
}

/// What is known of one registry.
#[derive(Debug, Clone, Default)]
pub(crate) struct RegistryReport {
    /// Whether readiness waits for it without a deadline.
    pub(crate) required: bool,
    /// Entries held.
    pub(crate) entries: usize,
    /// Nothing complete is known of it, of this process or of one before it.
    pub(crate) unheard: bool,
    /// Events that came from it.
    pub(crate) events: u64,
    /// How far it can be believed.
    pub(crate) freshness: Freshness,
}

/// Every registry's report.
pub(crate) type Reports = Arc<BTreeMap<RegistryId, RegistryReport>>;

/// The writer's side: ingestion has the only one.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) state: watch::Sender<Arc<Publication>>,
    pub(crate) reports: watch::Sender<Reports>,
}

/// The readers' side.
#[derive(Debug, Clone)]
pub(crate) struct Readers {
    /// The newest publication.
    pub(crate) state: watch::Receiver<Arc<Publication>>,
    /// The newest reports.
    pub(crate) reports: watch::Receiver<Reports>,
}

/// A pair on which nothing but an empty mesh has been published.
pub(crate) fn channel() -> (Publisher, Readers) {
    let empty = Publication {
        snapshot: Snapshot::default(),
        resources: weft_xds::Published::default(),
        since: Instant::now(),
    };
    let (state, newest_state) = watch::channel(Arc::new(empty));
    let (reports, newest_reports) = watch::channel(Reports::default());
    (Publisher { state, reports }, Readers { state: newest_state, reports: newest_reports })
}
