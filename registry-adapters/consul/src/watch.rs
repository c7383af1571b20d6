//! The adapter's tasks: one that follows each query, and one that collects what they read and tells the mesh.
//!
//! The followers (`follow.rs`) only ask and report. The collector here owns the [`View`], which decides; so all events
//! leave from one place and in one order. Dropping the stream ends all tasks.

mod follow;
mod shared;

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

use crate::answer::HealthEntry;
use crate::client::{Answer, ConsulClient};
use crate::convert::{Context, convert};
use crate::error::ConsulError;
use crate::settings::{ConsulSettings, InvalidSettings};
use crate::view::{Namespace, Sight, Target, View};
use follow::{ListAnswer, Query, Report};
use shared::{Shared, Told};

type Item = Result<RegistryEvent, RegistryError>;

/// One Consul datacenter as a registry.
#[derive(Debug)]
pub struct ConsulRegistry {
    id: RegistryId,
    client: ConsulClient,
    settings: ConsulSettings,
    trust_domain: TrustDomain,
}

impl ConsulRegistry {
    /// The registry `id`, whose workloads have identities in `trust_domain`. Connects to nothing yet.
    ///
    /// # Errors
    /// When a setting is wrong or a file that it names can't be used.
    pub fn new(
        id: RegistryId,
        settings: ConsulSettings,
        trust_domain: TrustDomain,
    ) -> Result<Self, InvalidSettings> {
        let client = ConsulClient::new(&settings)?;
        Ok(Self { id, client, settings, trust_domain })
    }

    /// The client that it reads with.
    pub fn client(&self) -> &ConsulClient {
        &self.client
    }
}

impl Registry for ConsulRegistry {
    fn id(&self) -> &RegistryId {
        &self.id
    }

    fn watch(self: Box<Self>, reread: Reread) -> BoxStream<'static, Item> {
        stream_of(move |items| Collector::new(*self, items).run(reread))
    }
}

/// Collects what the followers report.
struct Collector {
    context: Context,
    shared: Arc<Shared>,
    view: View,
    reports: mpsc::Receiver<Report>,
    items: mpsc::Sender<Item>,
    tasks: JoinSet<()>,
    followers: BTreeMap<Target, AbortHandle>,
    round: Round,
    recheck: BTreeMap<Namespace, Recheck>,
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

/// A second look at the list of a namespace, when a service's answer is strange.
#[derive(Debug, Default)]
struct Recheck {
    running: bool,
    suspects: BTreeSet<Target>,
    wanted: bool,
}

impl Collector {
    fn new(registry: ConsulRegistry, items: mpsc::Sender<Item>) -> Self {
        let namespaces: Vec<Namespace> = match registry.settings.namespaces.as_slice() {
            [] => vec![None],
            names => names.iter().cloned().map(Some).collect(),
        };
        // As many as may be under way: a report waits for the collector only in a burst.
        let (sender, reports) = mpsc::channel(64);
        let shared = Arc::new(Shared::new(registry.client, registry.settings, sender));
        Self {
            context: Context { registry: registry.id, trust_domain: registry.trust_domain },
            shared,
            view: View::new(namespaces.iter().cloned()),
            reports,
            items,
            tasks: JoinSet::new(),
            followers: BTreeMap::new(),
            round: Round::default(),
            recheck: namespaces.into_iter().map(|namespace| (namespace, Recheck::default())).collect(),
            told: Telling::default(),
        }
    }

    async fn run(mut self, mut reread: Reread) {
        for namespace in self.recheck.keys() {
            self.tasks.spawn(follow::follow(self.shared.clone(), Query::List(namespace.clone())));
        }
        loop {
            let (patience_ends, problems_due) = (self.round.patience_ends, self.told.problems_due());
            let items = tokio::select! {
                Some(report) = self.reports.recv() => self.on_report(report),
                () = reread.requested() => self.start_over(),
                () = until(patience_ends) => self.tell_services(),
                () = until(problems_due) => self.tell_problems(),
                Some(ended) = self.tasks.join_next() => self.on_ended(ended),
            };
            for item in items {
                if self.items.send(item).await.is_err() {
                    return;
                }
            }
        }
    }

    fn on_report(&mut self, report: Report) -> Vec<Item> {
        let mut answered = false;
        let event = match report {
            Report::List { namespace, result: Ok(answer), suspects } => {
                answered = true;
                let event = self.on_list(&namespace, &answer);
                self.on_rechecked(&namespace, suspects);
                event
            }
            Report::List { namespace, result: Err(error), suspects } => {
                self.view.on_list_failed(&namespace, error);
                self.requeue(&namespace, suspects);
                None
            }
            Report::Service { target, round, result } => self.on_service(&target, round, result),
            Report::Doubtful { gone, hidden } => {
                hidden.iter().for_each(|target| self.view.on_hidden(target));
                self.on_gone(&gone)
            }
        };
        self.start_rechecks();
        self.finish(event, answered)
    }

    /// Completes what a report led to: the round's `Reset`, problems, and the state of the source.
    fn finish(&mut self, event: Option<RegistryEvent>, answered: bool) -> Vec<Item> {
        let mut events = event.filter(|_| self.round.services_told);
        if !self.round.done && self.view.is_complete() {
            self.round =
                Round { number: self.round.number, done: true, services_told: true, patience_ends: None };
            events = Some(self.view.all());
        }
        self.told.problems_may_differ();
        self.told.items(events, self.view.source_error().map(RegistryError::from), answered)
    }

    fn tell_problems(&mut self) -> Vec<Item> {
        let problems = self.all_problems();
        self.told.tell_problems(problems).into_iter().collect()
    }

    fn all_problems(&self) -> Vec<Problem> {
        let mut problems = self.view.problems();
        if self.shared.is_rotating() {
            problems.push(self.shared.rotation_problem(&self.context.registry));
            problems.sort();
        }
        problems
    }

    fn on_list(&mut self, namespace: &Namespace, answer: &ListAnswer) -> Option<RegistryEvent> {
        let names: BTreeSet<&str> = answer.answer.value.keys().map(String::as_str).collect();
        let sight = Sight::of_list(&names, answer.answer.filtered, namespace, answer.told == Told::Yes);
        let listed = self.view.on_list(namespace, &names, sight);
        if let Some(error) = self.shared.behind("the list of services", answer.answer.behind) {
            self.view.on_list_failed(namespace, error);
        }
        if !listed.doubtful.is_empty() {
            self.tasks.spawn(follow::look_for(self.shared.clone(), listed.doubtful));
        }
        let event = self.on_gone(&listed.gone);
        self.shared.set_followed(self.view.followed());
        for target in listed.added {
            let task = follow::follow(self.shared.clone(), Query::Service(target.clone()));
            self.followers.insert(target, self.tasks.spawn(task));
        }
        if !self.round.done && self.round.patience_ends.is_none() && sight != Sight::Nothing {
            self.round.patience_ends = Some(Instant::now() + PATIENCE);
        }
        event
    }

    fn on_service(
        &mut self,
        target: &Target,
        round: u64,
        result: Result<Answer<Vec<HealthEntry>>, ConsulError>,
    ) -> Option<RegistryEvent> {
        if !self.view.follows(target) {
            return None;
        }
        let answer = match result {
            Ok(answer) => answer,
            Err(error) => {
                self.view.on_instances_failed(target, error);
                self.want_recheck(&target.namespace, None);
                return None;
            }
        };
        if answer.value.is_empty() {
            // Gone or hidden: the list knows.
            self.want_recheck(&target.namespace, Some(target.clone()));
            return None;
        }
        let converted = convert(&self.context, &answer.value, self.view.last(target), now_unix_ms());
        let current = round == self.round.number;
        let event = if answer.filtered {
            self.view.on_some_instances(target, converted, current)
        } else {
            self.view.on_instances(target, converted, current)
        };
        if let Some(error) = self.shared.behind(target.name.as_str(), answer.behind) {
            self.view.on_instances_failed(target, error);
        }
        event
    }

    fn on_gone(&mut self, targets: &[Target]) -> Option<RegistryEvent> {
        for target in targets {
            if let Some(follower) = self.followers.remove(target) {
                follower.abort();
            }
        }
        let event = self.view.on_gone(targets);
        self.shared.set_followed(self.view.followed());
        event
    }

    fn want_recheck(&mut self, namespace: &Namespace, suspect: Option<Target>) {
        let recheck = self.recheck.entry(namespace.clone()).or_default();
        recheck.wanted = true;
        recheck.suspects.extend(suspect);
    }

    /// The list was read after these services had no instances: those that are listed still are hidden.
    fn on_rechecked(&mut self, namespace: &Namespace, suspects: Option<BTreeSet<Target>>) {
        let Some(suspects) = suspects else { return };
        suspects.iter().for_each(|target| self.view.on_hidden(target));
        self.recheck.entry(namespace.clone()).or_default().running = false;
    }

    fn requeue(&mut self, namespace: &Namespace, suspects: Option<BTreeSet<Target>>) {
        let Some(suspects) = suspects else { return };
        let recheck = self.recheck.entry(namespace.clone()).or_default();
        recheck.running = false;
        recheck.wanted |= !suspects.is_empty();
        recheck.suspects.extend(suspects);
    }

    fn start_rechecks(&mut self) {
        for (namespace, recheck) in &mut self.recheck {
            if recheck.wanted && !recheck.running {
                (recheck.wanted, recheck.running) = (false, true);
                let suspects = std::mem::take(&mut recheck.suspects);
                self.tasks.spawn(follow::recheck(self.shared.clone(), namespace.clone(), suspects));
            }
        }
    }

    fn start_over(&mut self) -> Vec<Item> {
        self.round.number += 1;
        self.round.done = false;
        self.view.start_over();
        self.shared.start_round(self.round.number);
        Vec::new()
    }

    /// The round takes too long: what was read is told, the rest follows.
    fn tell_services(&mut self) -> Vec<Item> {
        self.round.patience_ends = None;
        if self.round.services_told {
            return Vec::new();
        }
        self.round.services_told = true;
        let event = self.view.all_read();
        self.finish(event, false)
    }

    fn on_ended(&mut self, ended: Result<(), tokio::task::JoinError>) -> Vec<Item> {
        match ended {
            Err(error) if error.is_panic() => {
                vec![Err(
                    RegistryError::source_down("a task of the Consul adapter has failed").caused_by(error)
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
