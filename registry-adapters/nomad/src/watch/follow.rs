//! Following one query: ask, report, ask again. And what is read once.
//!
//! Every loop here is bounded in rate by [`Pace`] when answers come fast and by [`Backoff`] when they are bad. A wait
//! ends early when everything is to be read anew.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use weft_registry::{Backoff, BlockingIndex, Pace, RegistryErrorKind};

use super::shared::Shared;
use crate::answer::{
    Allocation, CheckResult, Job, NamespaceServices, Node, Registration, WholeAllocation, WholeNode,
};
use crate::client::{Answer, Block};
use crate::error::NomadError;
use crate::view::{JobVersion, List, Target};

/// What is followed.
#[derive(Debug, Clone)]
pub(super) enum Query {
    List(List),
    Service(Target),
}

pub(super) type Instances = Result<Vec<Registration>, NomadError>;

/// What a task found.
#[derive(Debug)]
pub(super) enum Report {
    Services(Result<BTreeSet<Target>, NomadError>),
    Allocations(Result<Vec<Allocation>, NomadError>),
    Nodes(Result<Vec<Node>, NomadError>),
    Service {
        target: Target,
        round: u64,
        result: Instances,
    },
    /// A namespace of which nothing was listed, asked for by its name.
    Doubtful {
        namespace: String,
        empty: Result<bool, NomadError>,
    },
    Job {
        version: JobVersion,
        result: Result<Job, NomadError>,
    },
    Checks {
        allocation: String,
        results: Vec<CheckResult>,
    },
    /// The event stream says that something is new about a service.
    Changed(Target),
    /// The event stream opened, or broke.
    Streaming(bool),
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
        let answered = tokio::select! {
            biased;
            Ok(()) = round.changed() => {
                index.start_over();
                pause = Duration::ZERO;
                continue;
            }
            // A wait of minutes would keep its turn from the others.
            Ok(()) = rotating.changed(), if matches!(query, Query::Service(_)) => {
                pause = Duration::ZERO;
                continue;
            }
            answered = asked => answered,
        };
        pause = match answered {
            Some(answered) => {
                index.answered(answered);
                outages = outages_before;
                backoff.reset();
                Duration::ZERO
            }
            // What is known stays. The index does not: an agent that was restarted may block on it for the whole
            // wait, and until it answers nobody knows that it is back.
            None => {
                index.start_over();
                backoff.next_delay()
            }
        };
    }
}

/// Asks once and reports; the answer's index, or `None` where it failed. `known`: the index of the last answer, and how many
/// outages there had been when it was asked for.
async fn ask(shared: &Shared, query: &Query, known: (BlockingIndex, u64), round: u64) -> Option<Option<u64>> {
    let (index, outages) = known;
    let block = |wait| {
        let index = index.get().filter(|_| shared.outages() == outages)?;
        Some(Block { index, wait })
    };
    let wait = shared.settings.wait;
    match query {
        Query::List(List::Services) => {
            let answer = services(shared, block(wait)).await;
            done(shared, answer, Report::Services).await
        }
        Query::List(List::Allocations) => {
            let answer = allocations(shared, block(wait)).await;
            done(shared, answer, Report::Allocations).await
        }
        Query::List(List::Nodes) => {
            let answer = nodes(shared, block(wait)).await;
            done(shared, answer, Report::Nodes).await
        }
        Query::Service(target) => {
            let permit = shared.permits.acquire().await;
            let answer = service(shared, target, block(shared.service_wait())).await;
            drop(permit);
            let report = |result| Report::Service { target: target.clone(), round, result };
            done(shared, answer, report).await
        }
    }
}

async fn done<T>(
    shared: &Shared,
    answer: Result<Answer<T>, NomadError>,
    report: impl FnOnce(Result<T, NomadError>) -> Report,
) -> Option<Option<u64>> {
    shared.note_outage(&answer);
    let index = answer.as_ref().ok().map(|answer| answer.index);
    shared.report(report(answer.map(|answer| answer.value))).await;
    index
}

async fn get<T: serde::de::DeserializeOwned>(
    shared: &Shared,
    what: &str,
    path: &[&str],
    query: &[(&str, &str)],
    block: Option<Block>,
) -> Result<Answer<T>, NomadError> {
    let answer = shared.client.get(what, path, query, block).await?;
    if !answer.known_leader {
        let reason = "the server that answered knows no leader, so it may be of long ago";
        return Err(NomadError::new(RegistryErrorKind::SourceDown, what, reason));
    }
    Ok(answer)
}

/// The allocations of all namespaces that are read.
async fn allocations(shared: &Shared, block: Option<Block>) -> Result<Answer<Vec<Allocation>>, NomadError> {
    let query = [("namespace", "*"), ("resources", "true")];
    let mut answer: Answer<Vec<Allocation>> =
        get(shared, "the list of allocations", &["v1", "allocations"], &query, block).await?;
    answer.value.retain(|one| shared.settings.reads(&one.namespace));
    Ok(answer)
}

/// The services of all namespaces that are read.
async fn services(shared: &Shared, block: Option<Block>) -> Result<Answer<BTreeSet<Target>>, NomadError> {
    let query = [("namespace", "*")];
    let answer: Answer<Vec<NamespaceServices>> =
        get(shared, "the list of services", &["v1", "services"], &query, block).await?;
    let of = answer.value.iter().filter(|one| shared.settings.reads(&one.namespace));
    let targets = of.flat_map(|one| {
        let target = |service: &crate::answer::ListedService| Target {
            namespace: one.namespace.clone(),
            name: service.service_name.clone(),
        };
        one.services.iter().map(target)
    });
    Ok(Answer { value: targets.collect(), index: answer.index, known_leader: true })
}

/// The nodes, each with its zone. A node's meta is not in the list, so it is asked for by itself, once a node.
async fn nodes(shared: &Shared, block: Option<Block>) -> Result<Answer<Vec<Node>>, NomadError> {
    let mut answer: Answer<Vec<Node>> =
        get(shared, "the list of nodes", &["v1", "nodes"], &[], block).await?;
    for node in &mut answer.value {
        if shared.settings.zone_meta.is_empty() || node.status == "down" {
            continue;
        }
        let permit = shared.permits.acquire().await;
        let whole = get::<WholeNode>(shared, "a node", &["v1", "node", &node.id], &[], None).await;
        drop(permit);
        node.zone = whole?.value.meta.remove(&shared.settings.zone_meta).unwrap_or_default();
    }
    Ok(answer)
}

async fn service(
    shared: &Shared,
    target: &Target,
    block: Option<Block>,
) -> Result<Answer<Vec<Registration>>, NomadError> {
    let query = [("namespace", target.namespace.as_str())];
    get(shared, &target.describe(), &["v1", "service", &target.name], &query, block).await
}

/// Reads a service once.
pub(super) async fn read(shared: Arc<Shared>, target: Target, round: u64) {
    let permit = shared.permits.acquire().await;
    let answer = service(&shared, &target, None).await;
    drop(permit);
    shared.note_outage(&answer);
    let result = answer.map(|answer| answer.value);
    shared.report(Report::Service { target, round, result }).await;
}

/// Reads a service that could not be read, after a while.
pub(super) async fn read_later(shared: Arc<Shared>, target: Target, round: u64) {
    sleep(Backoff::new(AGAIN, AGAIN).next_delay()).await;
    read(shared, target, round).await;
}

/// Asks for the services of one namespace by its name: with `*` Nomad leaves out what the token may not see, and says nothing.
pub(super) async fn ask_namespace(shared: Arc<Shared>, namespace: String) {
    let query = [("namespace", namespace.as_str())];
    let what = format!("the services of namespace {namespace}");
    let answer = get::<Vec<NamespaceServices>>(&shared, &what, &["v1", "services"], &query, None).await;
    let empty = answer.map(|answer| answer.value.iter().all(|one| one.services.is_empty()));
    if empty.is_err() {
        // The list itself is asked again soon; this must not be faster.
        sleep(AGAIN).await;
    }
    shared.report(Report::Doubtful { namespace, empty }).await;
}

/// Reads the job that an allocation runs.
pub(super) async fn fetch_job(shared: Arc<Shared>, version: JobVersion, allocation: String) {
    let permit = shared.permits.acquire().await;
    let what = "an allocation's job";
    let path = ["v1", "allocation", allocation.as_str()];
    let answer = get::<WholeAllocation>(&shared, what, &path, &[], None).await;
    drop(permit);
    if answer.is_err() {
        sleep(AGAIN).await;
    }
    shared.report(Report::Job { version, result: answer.map(|answer| answer.value.job) }).await;
}

const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(15);
/// Until what could not be read is asked for again.
const AGAIN: Duration = Duration::from_secs(1);
