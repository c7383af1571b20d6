//! What all tasks of one registry share: the client, the turns, and the signals that end a wait.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use weft_registry::RegistryErrorKind;

use super::follow::Report;
use crate::client::NomadClient;
use crate::error::NomadError;
use crate::settings::NomadSettings;

/// What all tasks of one registry share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) client: NomadClient,
    pub(super) settings: NomadSettings,
    reports: mpsc::Sender<Report>,
    pub(super) round: watch::Sender<u64>,
    pub(super) rotating: watch::Sender<bool>,
    /// The allocations whose checks are asked for.
    pub(super) checked: watch::Sender<Vec<String>>,
    /// Counts the wishes for another event stream.
    pub(super) reopened: watch::Sender<u64>,
    /// One for each request for a single thing. First come, first served: with more services than these, they take turns.
    pub(super) permits: Semaphore,
    outages: AtomicU64,
}

impl Shared {
    pub(super) fn new(client: NomadClient, settings: NomadSettings, reports: mpsc::Sender<Report>) -> Self {
        Self {
            client,
            reports,
            round: watch::Sender::new(0),
            rotating: watch::Sender::new(false),
            checked: watch::Sender::new(Vec::new()),
            reopened: watch::Sender::new(0),
            // The lists and the stream have theirs beside these.
            permits: Semaphore::new(settings.max_requests),
            outages: AtomicU64::new(0),
            settings,
        }
    }

    pub(super) fn start_round(&self, number: u64) {
        self.round.send_replace(number);
    }

    pub(super) fn reopen_stream(&self) {
        self.reopened.send_modify(|count| *count += 1);
    }

    pub(super) fn set_checked(&self, allocations: Vec<String>) {
        self.checked.send_if_modified(|known| {
            let changed = *known != allocations;
            *known = allocations;
            changed
        });
    }

    /// How many reads have found the agent down. An index from before one of them may be another server's life: higher
    /// than any of now, so that a query with it would not be woken. The query that slept through it can't know else.
    pub(super) fn outages(&self) -> u64 {
        self.outages.load(Ordering::Relaxed)
    }

    pub(super) fn note_outage<T>(&self, result: &Result<T, NomadError>) {
        if result.as_ref().is_err_and(|error| error.kind == RegistryErrorKind::SourceDown) {
            self.outages.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tells how many services have blocking queries; with more than `max_requests` they take turns.
    pub(super) fn set_followed(&self, services: usize) {
        // Half of the places are left to what is read once.
        let rotating = services > self.settings.max_requests / 2;
        self.rotating.send_if_modified(|was| std::mem::replace(was, rotating) != rotating);
    }

    pub(super) fn is_rotating(&self) -> bool {
        *self.rotating.borrow()
    }

    /// How long a service's query waits for a change.
    pub(super) fn service_wait(&self) -> Duration {
        if self.is_rotating() { TURN.min(self.settings.wait) } else { self.settings.wait }
    }

    pub(super) async fn report(&self, report: Report) {
        // It is gone only when the stream was dropped, and then this task is about to be.
        let _ = self.reports.send(report).await;
    }
}

/// A turn of a service that shares its place with others.
const TURN: Duration = Duration::from_secs(1);
