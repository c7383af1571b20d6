//! The adapter's tasks: those that follow the lists, those that read services, jobs and checks, and one that collects what they
//! read and tells the mesh.
//!
//! The list of services, of allocations and of nodes are blocking queries each. Which service changed is told by the event stream,
//! and then read; where the token may not have the stream, each service has a blocking query of its own. All events leave
//! from one place and in one order. Dropping the stream ends all tasks.

mod checks;
mod follow;
mod shared;
mod stream;

use std::collections::{BTreeMap, BTreeSet};
use std::future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use weft_model::{RegistryEvent, RegistryId, TrustDomain};
use weft_registry::{Problem, Registry, RegistryError, Reread, Telling, stream_of};

use crate::client::NomadClient;
use crate::convert::Context;
use crate::settings::{InvalidSettings, NomadSettings};
use crate::view::{JobVersion, List, Target, View};
use follow::{Query, Report};
use shared::Shared;

type Item = Result<RegistryEvent, RegistryError>;

/// One Nomad region as a registry.
#[derive(Debug)]
pub struct NomadRegistry {
    id: RegistryId,
    client: NomadClient,
    settings: NomadSettings,
    trust_domain: TrustDomain,
}

impl NomadRegistry {
    /// The registry `id`, whose workloads have identities in `trust_domain`. Connects to nothing yet.
    ///
    /// # Errors
    /// When a setting is wrong or a file that it names can't be used.
    pub fn new(
        id: RegistryId,
        settings: NomadSettings,
        trust_domain: TrustDomain,
    ) -> Result<Self, InvalidSettings> {
        let client = NomadClient::new(&settings)?;
        Ok(Self { id, client, settings, trust_domain })
    }
}

impl Registry for NomadRegistry {
    fn id(&self) -> &RegistryId {
        &self.id
    }

    fn watch(self: Box<Self>, reread: Reread) -> BoxStream<'static, Item> {
        stream_of(move |items| Collector::new(*self, items).run(reread))
    }
}

/// Collects what the tasks report.
struct Collector {
    registry: RegistryId,
    shared: Arc<Shared>,
    view: View,
    reports: mpsc::Receiver<Report>,
    items: mpsc::Sender<Item>,
    tasks: JoinSet<()>,
    /// Blocking queries of single services, while there is no event stream.
    followers: BTreeMap<Target, AbortHandle>,
    streaming: bool,
    /// The namespaces that the stream tells of: Nomad looks them up once, when it opens.
    streamed: BTreeSet<String>,
    reading: BTreeSet<Target>,
    /// To be read once more: something happened while they were read.
    again: BTreeSet<Target>,
    fetching: BTreeSet<JobVersion>,
    doubtful: BTreeSet<String>,
    round: Round,
    told: Telling,
}

/// What a complete reading waits for.
#[derive(Debug, Default)]
struct Round {
    /// Counts the requests to read everything anew.
    number: u64,
    /// Whether this round's `Reset` of everything was sent.
    done: bool,
    /// Whether single services are told before that: a round's first reading is one event, but not at any price.
    services_told: bool,
    /// When that is given up.
    patience_ends: Option<Instant>,
}

impl Collector {
    fn new(registry: NomadRegistry, items: mpsc::Sender<Item>) -> Self {
        // As many as may be under way: a report waits for the collector only in a burst.
        let (sender, reports) = mpsc::channel(64);
        let context = Context {
            registry: registry.id.clone(),
            trust_domain: registry.trust_domain,
            identities: registry.settings.identities.clone(),
        };
        let asked = match registry.settings.namespaces.as_slice() {
            [] => vec!["default".to_owned()],
            names => names.to_vec(),
        };
        Self {
            view: View::new(context, asked),
            registry: registry.id,
            shared: Arc::new(Shared::new(registry.client, registry.settings, sender)),
            reports,
            items,
            tasks: JoinSet::new(),
            followers: BTreeMap::new(),
            streaming: false,
            streamed: BTreeSet::new(),
            reading: BTreeSet::new(),
            again: BTreeSet::new(),
            fetching: BTreeSet::new(),
            doubtful: BTreeSet::new(),
            round: Round::default(),
            told: Telling::default(),
        }
    }

    async fn run(mut self, mut reread: Reread) {
        for list in [List::Services, List::Allocations, List::Nodes] {
            self.tasks.spawn(follow::follow(self.shared.clone(), Query::List(list)));
        }
        self.tasks.spawn(stream::follow(self.shared.clone()));
        self.tasks.spawn(checks::follow(self.shared.clone()));
        loop {
            let (patience_ends, problems_due) = (self.round.patience_ends, self.told.problems_due());
            let items = tokio::select! {
                Some(report) = self.reports.recv() => self.on_report(report),
                () = reread.requested() => self.start_over(),
                () = until(patience_ends) => self.tell_services(),
                () = until(problems_due) => self.tell_problems(),
                Some(ended) = self.tasks.join_next() => Self::on_ended(ended),
            };
            for item in items {
                if self.items.send(item).await.is_err() {
                    return;
                }
            }
        }
    }

    fn on_report(&mut self, report: Report) -> Vec<Item> {
        let (events, answered) = self.take(report);
        for (version, allocation) in self.view.wanted_jobs() {
            if self.fetching.insert(version.clone()) {
                self.tasks.spawn(follow::fetch_job(self.shared.clone(), version, allocation));
            }
        }
        self.shared.set_checked(self.view.checked());
        self.finish(events, answered)
    }

    /// The events of a report, and whether it shows that the source is well.
    fn take(&mut self, report: Report) -> (Vec<RegistryEvent>, bool) {
        let now = now_unix_ms();
        let events = match report {
            Report::Services(Ok(listed)) => return (self.on_services(listed), true),
            Report::Allocations(Ok(all)) => return (self.view.on_allocations(all, now), true),
            Report::Nodes(Ok(nodes)) => return (self.view.on_nodes(nodes, now), true),
            Report::Services(Err(error)) => {
                self.view.on_list_failed(List::Services, error);
                Vec::new()
            }
            Report::Allocations(Err(error)) => {
                self.view.on_list_failed(List::Allocations, error);
                Vec::new()
            }
            Report::Nodes(Err(error)) => {
                self.view.on_list_failed(List::Nodes, error);
                Vec::new()
            }
            Report::Service { target, round, result } => self.on_service(&target, round, result),
            Report::Doubtful { namespace, empty } => {
                self.doubtful.remove(&namespace);
                let visible = matches!(empty, Ok(false));
                let gone = self.view.on_doubtful(&namespace, empty);
                if self.view.hides(&namespace) {
                    // Nothing would wake the list when a token gets its rights.
                    self.ask_about(namespace);
                } else if visible && !self.view.lists(&namespace) {
                    self.shared.start_round(self.round.number);
                }
                self.on_gone(&gone)
            }
            Report::Job { version, result } => {
                self.fetching.remove(&version);
                match result {
                    Ok(job) => self.view.on_job(version, job, now),
                    // Asked for again with the next report: a list that comes back soon, or a round.
                    Err(_) => Vec::new(),
                }
            }
            Report::Checks { allocation, results } => self.view.on_checks(&allocation, results, now),
            Report::Changed(target) => {
                self.read(target);
                Vec::new()
            }
            Report::Streaming(streaming) => {
                self.on_streaming(streaming);
                Vec::new()
            }
        };
        (events, false)
    }

    /// Completes what a report led to: the round's `Reset`, problems, and the state of the source.
    fn finish(&mut self, events: Vec<RegistryEvent>, answered: bool) -> Vec<Item> {
        let mut events = if self.round.services_told { events } else { Vec::new() };
        if !self.round.done && self.view.is_complete() && self.doubtful.is_empty() {
            self.round =
                Round { number: self.round.number, done: true, services_told: true, patience_ends: None };
            events = vec![self.view.all()];
        }
        self.told.problems_may_differ();
        self.told.items(events, self.view.source_error().map(RegistryError::from), answered)
    }

    fn tell_problems(&mut self) -> Vec<Item> {
        let mut problems = self.view.problems();
        if self.shared.is_rotating() && !self.streaming {
            problems.push(self.rotation_problem());
            problems.sort();
        }
        self.told.tell_problems(problems).into_iter().collect()
    }

    fn rotation_problem(&self) -> Problem {
        Problem::warning(
            self.registry.as_str(),
            "it has more services than max_requests, and the token may not have the event stream: they take turns, and a change is seen \
             late. Give the token read-job in all namespaces",
        )
    }

    fn on_services(&mut self, listed: BTreeSet<Target>) -> Vec<RegistryEvent> {
        let listed = self.view.on_services(listed);
        let events = self.on_gone(&listed.gone);
        listed.doubtful.into_iter().for_each(|namespace| self.ask_about(namespace));
        if self.streaming && listed.added.iter().any(|target| !self.streamed.contains(&target.namespace)) {
            self.shared.reopen_stream();
        }
        for target in listed.added {
            self.streamed.insert(target.namespace.clone());
            if self.streaming { self.read(target) } else { self.follow(target) }
        }
        if !self.round.done && self.round.patience_ends.is_none() {
            self.round.patience_ends = Some(Instant::now() + PATIENCE);
        }
        events
    }

    fn ask_about(&mut self, namespace: String) {
        if self.doubtful.insert(namespace.clone()) {
            self.tasks.spawn(follow::ask_namespace(self.shared.clone(), namespace));
        }
    }

    fn on_service(&mut self, target: &Target, round: u64, result: follow::Instances) -> Vec<RegistryEvent> {
        self.reading.remove(target);
        if self.again.remove(target) {
            self.read(target.clone());
        }
        match result {
            Ok(registrations) => {
                let current = round == self.round.number;
                self.view.on_service(target, registrations, current, now_unix_ms())
            }
            Err(error) => {
                self.view.on_service_failed(target, error);
                if self.streaming && self.reading.insert(target.clone()) {
                    let shared = self.shared.clone();
                    self.tasks.spawn(follow::read_later(shared, target.clone(), self.round.number));
                }
                Vec::new()
            }
        }
    }

    fn on_gone(&mut self, targets: &[Target]) -> Vec<RegistryEvent> {
        for target in targets {
            if let Some(follower) = self.followers.remove(target) {
                follower.abort();
            }
        }
        self.shared.set_followed(self.followers.len());
        if targets.is_empty() { Vec::new() } else { self.view.on_gone(targets).into_iter().collect() }
    }

    /// Reads a service once, and once more where something happens meanwhile.
    fn read(&mut self, target: Target) {
        if !self.view.follows(&target) {
            return;
        }
        if !self.reading.insert(target.clone()) {
            self.again.insert(target);
            return;
        }
        self.tasks.spawn(follow::read(self.shared.clone(), target, self.round.number));
    }

    fn follow(&mut self, target: Target) {
        if !self.followers.contains_key(&target) {
            let task = follow::follow(self.shared.clone(), Query::Service(target.clone()));
            self.followers.insert(target, self.tasks.spawn(task));
        }
        self.shared.set_followed(self.followers.len());
    }

    /// The stream opened, or broke. What happened before it opened it does not tell, so everything is read.
    fn on_streaming(&mut self, streaming: bool) {
        self.streaming = streaming;
        let targets: Vec<Target> = self.view.targets().cloned().collect();
        self.streamed = targets.iter().map(|target| target.namespace.clone()).collect();
        if streaming {
            std::mem::take(&mut self.followers).into_values().for_each(|follower| follower.abort());
            self.shared.set_followed(0);
            targets.into_iter().for_each(|target| self.read(target));
        } else {
            targets.into_iter().for_each(|target| self.follow(target));
        }
    }

    fn start_over(&mut self) -> Vec<Item> {
        self.round.number += 1;
        self.round.done = false;
        self.view.start_over();
        self.shared.start_round(self.round.number);
        if self.streaming {
            let targets: Vec<Target> = self.view.targets().cloned().collect();
            targets.into_iter().for_each(|target| self.read(target));
        }
        Vec::new()
    }

    /// The round takes too long: what was read is told, the rest follows.
    fn tell_services(&mut self) -> Vec<Item> {
        self.round.patience_ends = None;
        if self.round.services_told {
            return Vec::new();
        }
        self.round.services_told = true;
        let events = self.view.all_read().into_iter().collect();
        self.finish(events, false)
    }

    fn on_ended(ended: Result<(), tokio::task::JoinError>) -> Vec<Item> {
        match ended {
            Err(error) if error.is_panic() => {
                vec![Err(
                    RegistryError::source_down("a task of the Nomad adapter has failed").caused_by(error)
                )]
            }
            _ => Vec::new(),
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => future::pending().await,
    }
}

fn now_unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// One service that can't be read must not keep all others from the mesh for longer than this.
const PATIENCE: Duration = Duration::from_secs(5);
