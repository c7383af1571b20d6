//! Following one query: ask, report, ask again. And the single looks that an odd answer asks for.
//!
//! Every loop here is bounded in rate by [`Pace`] when answers come fast and by [`Backoff`] when they are bad. A wait
//! ends early when everything is to be read anew.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::time::{Instant, sleep};
use weft_registry::{Backoff, BlockingIndex, Pace};

use super::shared::{Shared, Told};
use crate::answer::HealthEntry;
use crate::client::{Answer, Block};
use crate::error::ConsulError;
use crate::view::{Namespace, Target};

/// What is followed.
#[derive(Debug, Clone)]
pub(super) enum Query {
    /// The list of services in a namespace.
    List(Namespace),
    /// One service's instances.
    Service(Target),
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
    let (mut pause, mut outages) = (Duration::ZERO, 0);
    loop {
        let outages_before = shared.outages();
        let number = *round.borrow_and_update();
        rotating.borrow_and_update();
        let asked = async {
            sleep(pause + pace.take(Instant::now().into_std())).await;
            ask(&shared, &query, (index, outages), number).await
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
                outages = outages_before;
                backoff.reset();
                Duration::ZERO
            }
            Seen::Odd => {
                index.start_over();
                backoff.next_delay()
            }
            // What is known stays. The index does not: an agent that was restarted may block on it for the whole
            // wait, and until it answers nobody knows that it is back.
            Seen::Failed => {
                index.start_over();
                backoff.next_delay()
            }
        };
    }
}

/// Asks once. `known`: the index of the last answer, and how many outages there had been when it was asked for.
async fn ask(shared: &Shared, query: &Query, known: (BlockingIndex, u64), round: u64) -> Seen {
    let (index, outages) = known;
    let block = |wait| {
        let index = index.get().filter(|_| shared.outages() == outages)?;
        Some(Block { index, wait })
    };
    match query {
        Query::List(namespace) => {
            let result = shared.list(namespace, block(shared.settings.wait)).await;
            shared.note_outage(&result);
            let seen = seen(&result, |list| (list.answer.value.is_empty(), list.answer.index));
            shared.report(Report::List { namespace: namespace.clone(), result, suspects: None }).await;
            seen
        }
        Query::Service(target) => {
            let Ok(permit) = shared.permits.acquire().await else { return Seen::Failed };

            let result = shared
                .client
                .health(target.namespace.as_deref(), &target.name, block(shared.service_wait()))
                .await;
            drop(permit);
            shared.note_outage(&result);
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

const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(15);
const RECHECK_AFTER: Duration = Duration::from_millis(50);
