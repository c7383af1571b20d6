//! Following one query: ask, report, ask again. And the single looks that an odd answer asks for.
//!
//! Every loop here is bounded in rate by [`Pace`] when answers come fast and by [`Backoff`] when they are bad. A wait
//! ends early when everything is to be read anew.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use futures::StreamExt;
use std::sync::Arc;
use tokio::sync::{OnceCell, Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep};
use weft_model::RegistryId;
use weft_registry::{Backoff, Problem, RegistryErrorKind};

use crate::answer::HealthEntry;
use crate::client::{Answer, Block, ConsulClient};
use crate::error::ConsulError;
use crate::index::{BlockingIndex, Pace};
use crate::settings::ConsulSettings;
use crate::view::{Namespace, Target};

/// What is followed.
#[derive(Debug, Clone)]
pub(super) enum Query {
    /// The list of services in a namespace.
    List(Namespace),
    /// One service's instances.
    Service(Target),
}

/// Whether the server says when it hides something from the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Yes,
    No,
}

/// A list of services, and how far it can be trusted.
#[derive(Debug)]
pub(super) struct ListAnswer {
    pub(super) answer: Answer<HashMap<String, Vec<String>>>,
    pub(super) told: Told,
}

/// What a task found.
#[derive(Debug)]
pub(super) enum Report {
    List {
        namespace: Namespace,
        result: Result<ListAnswer, ConsulError>,
        /// For a second look: the services whose answers were empty before it was asked.
        suspects: Option<BTreeSet<Target>>,
    },
    Service {
        target: Target,
        round: u64,
        result: Result<Answer<Vec<HealthEntry>>, ConsulError>,
    },
    /// Services that the list lacks, looked for one by one.
    Doubtful {
        gone: Vec<Target>,
        hidden: Vec<Target>,
    },
}

/// What all tasks of one registry share.
#[derive(Debug)]
pub(super) struct Shared {
    client: ConsulClient,
    settings: ConsulSettings,
    reports: mpsc::Sender<Report>,
    round: watch::Sender<u64>,
    rotating: watch::Sender<bool>,
    /// One for each service query under way. First come, first served: that is the rotation.
    permits: Semaphore,
    told: OnceCell<Told>,
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
            settings,
        }
    }

    pub(super) fn start_round(&self, number: u64) {
        self.round.send_replace(number);
    }

    /// Tells how many services there are; with more than `max_watches` they take turns.
    pub(super) fn set_followed(&self, services: usize) {
        let rotating = services > self.settings.max_watches;
        self.rotating.send_if_modified(|was| std::mem::replace(was, rotating) != rotating);
    }

    pub(super) fn is_rotating(&self) -> bool {
        *self.rotating.borrow()
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

    async fn list(&self, namespace: &Namespace, block: Option<Block>) -> Result<ListAnswer, ConsulError> {
        let answer = self.client.services(namespace.as_deref(), block).await?;
        Ok(ListAnswer { answer, told: self.told().await })
    }

    async fn report(&self, report: Report) {
        // It is gone only when the stream was dropped, and then this task is about to be.
        let _ = self.reports.send(report).await;
    }
}

fn tells(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (1, 12)
}

/// How an answer leads to the next question.
enum Seen {
    /// Wait for a change of this.
    Fine(Option<u64>),
    /// Ask anew after a while: nothing would wake a blocking query when, say, a token gets its rights.
    Odd,
    Failed,
}

/// Follows one query for ever.
pub(super) async fn follow(shared: Arc<Shared>, query: Query) {
    let (mut round, mut rotating) = (shared.round.subscribe(), shared.rotating.subscribe());
    let (mut index, mut pace) = (BlockingIndex::default(), Pace::new());
    let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
    let mut pause = Duration::ZERO;
    loop {
        let number = *round.borrow_and_update();
        rotating.borrow_and_update();
        let asked = async {
            sleep(pause + pace.take(Instant::now().into_std())).await;
            ask(&shared, &query, index, number).await
        };
        let seen = tokio::select! {
            biased;
            Ok(()) = round.changed() => {
                index.start_over();
                pause = Duration::ZERO;
                continue;
            }
            // A wait of minutes would keep its turn from the others.
            Ok(()) = rotating.changed() => {
                pause = Duration::ZERO;
                continue;
            }
            seen = asked => seen,
        };
        pause = match seen {
            Seen::Fine(answered) => {
                index.answered(answered);
                backoff.reset();
                Duration::ZERO
            }
            Seen::Odd => {
                index.start_over();
                backoff.next_delay()
            }
            // Data and index stay.
            Seen::Failed => backoff.next_delay(),
        };
    }
}

async fn ask(shared: &Shared, query: &Query, index: BlockingIndex, round: u64) -> Seen {
    let block = |wait| index.get().map(|index| Block { index, wait });
    match query {
        Query::List(namespace) => {
            let result = shared.list(namespace, block(shared.settings.wait)).await;
            let seen = seen(&result, |list| (list.answer.value.is_empty(), list.answer.index));
            shared.report(Report::List { namespace: namespace.clone(), result, suspects: None }).await;
            seen
        }
        Query::Service(target) => {
            let Ok(permit) = shared.permits.acquire().await else { return Seen::Failed };
            let wait =
                if shared.is_rotating() { TURN.min(shared.settings.wait) } else { shared.settings.wait };
            let result = shared.client.health(target.namespace.as_deref(), &target.name, block(wait)).await;
            drop(permit);
            let seen = seen(&result, |answer| (answer.value.is_empty(), answer.index));
            shared.report(Report::Service { target: target.clone(), round, result }).await;
            seen
        }
    }
}

fn seen<T>(result: &Result<T, ConsulError>, of: impl Fn(&T) -> (bool, Option<u64>)) -> Seen {
    match result.as_ref().map(of) {
        Ok((true, _)) => Seen::Odd,
        Ok((false, index)) => Seen::Fine(index),
        Err(_) => Seen::Failed,
    }
}

/// Reads the list once more, for services whose answers were empty or failed.
pub(super) async fn recheck(shared: Arc<Shared>, namespace: Namespace, suspects: BTreeSet<Target>) {
    // Many services turn odd together; one look serves all that do within this time.
    sleep(RECHECK_AFTER).await;
    let result = shared.list(&namespace, None).await;
    shared.report(Report::List { namespace, result, suspects: Some(suspects) }).await;
}

/// Looks for services that a partial list lacks: empty and nothing hidden is gone.
pub(super) async fn look_for(shared: Arc<Shared>, targets: Vec<Target>) {
    let shared_ref = &shared;
    let looked = futures::stream::iter(targets)
        .map(|target| async move {
            let permit = shared_ref.permits.acquire().await;
            let answer = shared_ref.client.health(target.namespace.as_deref(), &target.name, None).await;
            drop(permit);
            (target, answer)
        })
        // A few at a time: their followers ask as well.
        .buffer_unordered(8);
    let (mut gone, mut hidden) = (Vec::new(), Vec::new());
    let mut looked = std::pin::pin!(looked);
    while let Some((target, answer)) = looked.next().await {
        match answer {
            Ok(answer) if answer.value.is_empty() && answer.filtered => hidden.push(target),
            Ok(answer) if answer.value.is_empty() => gone.push(target),
            // It is there, or nobody knows: its follower goes on.
            _ => {}
        }
    }
    shared.report(Report::Doubtful { gone, hidden }).await;
}

/// A turn of a service that shares its place with others.
const TURN: Duration = Duration::from_secs(1);
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(15);
const RECHECK_AFTER: Duration = Duration::from_millis(50);
