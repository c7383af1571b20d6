//! What all tasks of one registry share: the client, the turns, and the signals that end a wait.
//!
//! Turns are the permits of a fair semaphore: with more services than permits, each waits briefly for a change and goes to
//! the end of the queue, so every service is read within (services / permits) turns.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OnceCell, Semaphore, mpsc, watch};
use weft_model::RegistryId;
use weft_registry::{Problem, RegistryErrorKind};

use super::follow::{ListAnswer, Report};
use crate::client::{Block, ConsulClient};
use crate::error::ConsulError;
use crate::settings::ConsulSettings;
use crate::view::Namespace;

/// Whether the server says when it hides something from the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Yes,
    No,
}

/// What all tasks of one registry share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) client: ConsulClient,
    pub(super) settings: ConsulSettings,
    reports: mpsc::Sender<Report>,
    pub(super) round: watch::Sender<u64>,
    pub(super) rotating: watch::Sender<bool>,
    /// One for each service query under way. First come, first served: that is the rotation.
    pub(super) permits: Semaphore,
    told: OnceCell<Told>,
    outages: AtomicU64,
}

impl Shared {
    pub(super) fn new(client: ConsulClient, settings: ConsulSettings, reports: mpsc::Sender<Report>) -> Self {
        Self {
            client,
            reports,
            round: watch::Sender::new(0),
            rotating: watch::Sender::new(false),
            permits: Semaphore::new(settings.max_watches),
            told: OnceCell::new(),
            outages: AtomicU64::new(0),
            settings,
        }
    }

    pub(super) fn start_round(&self, number: u64) {
        self.round.send_replace(number);
    }

    /// How many reads have found the agent down. An index from before one of them may be another server's life: higher
    /// than any of now, so that a query with it would not be woken. The query that slept through it can't know else.
    pub(super) fn outages(&self) -> u64 {
        self.outages.load(Ordering::Relaxed)
    }

    pub(super) fn note_outage<T>(&self, result: &Result<T, ConsulError>) {
        if result.as_ref().is_err_and(|error| error.kind == RegistryErrorKind::SourceDown) {
            self.outages.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tells how many services there are; with more than `max_watches` they take turns.
    pub(super) fn set_followed(&self, services: usize) {
        let rotating = services > self.settings.max_watches;
        self.rotating.send_if_modified(|was| std::mem::replace(was, rotating) != rotating);
    }

    pub(super) fn is_rotating(&self) -> bool {
        *self.rotating.borrow()
    }

    /// How long a service's query waits for a change.
    pub(super) fn service_wait(&self) -> Duration {
        if self.is_rotating() { TURN.min(self.settings.wait) } else { self.settings.wait }
    }

    pub(super) fn rotation_problem(&self, registry: &RegistryId) -> Problem {
        let max = self.settings.max_watches;
        Problem::warning(
            registry.as_str(),
            format!(
                "it has more services than are watched at once (max_watches = {max}): they take turns of {TURN:?}, and a \
                 change is seen after up to services / {max} turns. Raise limits.http_max_conns_per_client of the Consul \
                 agent, then max_watches"
            ),
        )
    }

    /// An error where a `stale` answer is too old.
    pub(super) fn behind(&self, what: &str, behind: Option<Duration>) -> Option<ConsulError> {
        let reason = match behind {
            _ if !self.settings.stale => return None,
            None => "the server that answered knows no leader".to_owned(),
            Some(age) if age > self.settings.stale_after => {
                format!("the server that answered has not heard of the leader for {} s", age.as_secs())
            }
            Some(_) => return None,
        };
        Some(ConsulError::new(RegistryErrorKind::SourceDown, what, reason))
    }

    /// Whether an answer without "filtered" is complete: only with a token, and from Consul 1.12 on.
    async fn told(&self) -> Told {
        if self.settings.token_file.is_none() {
            return Told::No;
        }
        let ask = async || match self.client.agent().await {
            Ok(agent) => Ok(if tells(&agent.version) { Told::Yes } else { Told::No }),
            // A token may be good for services and not for this.
            Err(error) if error.kind == RegistryErrorKind::PermissionDenied => Ok(Told::No),
            Err(error) => Err(error),
        };
        self.told.get_or_try_init(ask).await.copied().unwrap_or(Told::No)
    }

    /// Reads the list of services and how far it can be trusted.
    pub(super) async fn list(
        &self,
        namespace: &Namespace,
        block: Option<Block>,
    ) -> Result<ListAnswer, ConsulError> {
        let answer = self.client.services(namespace.as_deref(), block).await?;
        Ok(ListAnswer { answer, told: self.told().await })
    }

    pub(super) async fn report(&self, report: Report) {
        // It is gone only when the stream was dropped, and then this task is about to be.
        let _ = self.reports.send(report).await;
    }
}

fn tells(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (1, 12)
}

/// A turn of a service that shares its place with others.
const TURN: Duration = Duration::from_secs(1);
