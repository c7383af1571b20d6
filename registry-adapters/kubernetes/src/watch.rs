//! The adapter's tasks: one that follows each source, and one that collects what they read and tells the mesh.
//!
//! The followers (`follow.rs`) only ask and report. The collector here owns the [`View`], which decides; so all events
//! leave from one place and in one order. What has piled up is told at once. Dropping the stream ends all tasks.

mod follow;
mod shared;

use std::future;
use std::sync::Arc;
use std::time::SystemTime;

use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use weft_model::{RegistryEvent, RegistryId, TrustDomain};
use weft_registry::{Registry, RegistryError, Reread, Telling, stream_of};

use crate::convert::Context;
use crate::object::{Kind, Source};
use crate::settings::{InvalidSettings, KubernetesSettings};
use crate::view::View;
use follow::Report;
use shared::Shared;

type Item = Result<RegistryEvent, RegistryError>;

/// One Kubernetes cluster as a registry.
#[derive(Debug)]
pub struct KubernetesRegistry {
    id: RegistryId,
    settings: KubernetesSettings,
    trust_domain: TrustDomain,
}

impl KubernetesRegistry {
    /// The registry `id`, whose pods have identities in `trust_domain`. Reads no file and connects to nothing yet: a
    /// kubeconfig that can't be used is a source that is down, and may come later.
    ///
    /// # Errors
    /// When a setting is wrong.
    pub fn new(
        id: RegistryId,
        settings: KubernetesSettings,
        trust_domain: TrustDomain,
    ) -> Result<Self, InvalidSettings> {
        settings.check()?;
        Ok(Self { id, settings, trust_domain })
    }
}

impl Registry for KubernetesRegistry {
    fn id(&self) -> &RegistryId {
        &self.id
    }

    fn watch(self: Box<Self>, reread: Reread) -> BoxStream<'static, Item> {
        stream_of(move |items| Collector::new(*self, items).run(reread))
    }
}

/// Collects what the followers report.
struct Collector {
    shared: Arc<Shared>,
    sources: Vec<Source>,
    view: View,
    reports: mpsc::Receiver<Report>,
    items: mpsc::Sender<Item>,
    tasks: JoinSet<()>,
    /// Counts the requests to read everything anew.
    round: u64,
    told: Telling,
}

impl Collector {
    fn new(registry: KubernetesRegistry, items: mpsc::Sender<Item>) -> Self {
        let KubernetesRegistry { id, settings, trust_domain } = registry;
        let context = Context { registry: id, trust_domain, network: settings.network.clone() };
        let sources = sources(&settings);
        let view = View::new(context, settings.namespaces.clone(), sources.clone());
        // A follower that is ahead of the collector by more than this waits: what it holds is memory.
        let (sender, reports) = mpsc::channel(BATCH);
        let shared = Arc::new(Shared::new(settings, sender));
        let (tasks, told) = (JoinSet::new(), Telling::default());
        Self { shared, sources, view, reports, items, tasks, round: 0, told }
    }

    async fn run(mut self, mut reread: Reread) {
        for source in self.sources.drain(..) {
            self.tasks.spawn(follow::follow(Arc::clone(&self.shared), source));
        }
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let problems_due = self.told.problems_due();
            let items = tokio::select! {
                _ = self.reports.recv_many(&mut batch, BATCH) => self.on_reports(&mut batch),
                () = reread.requested() => {
                    self.start_over();
                    Vec::new()
                }
                () = until(problems_due) => {
                    let problems = self.view.problems();
                    self.told.tell_problems(problems).into_iter().collect()
                }
                Some(ended) = self.tasks.join_next() => on_ended(ended),
            };
            for item in items {
                if self.items.send(item).await.is_err() {
                    return;
                }
            }
        }
    }

    fn on_reports(&mut self, batch: &mut Vec<Report>) -> Vec<Item> {
        let mut answered = false;
        for report in batch.drain(..) {
            match report {
                Report::Listed { source, round, objects } => {
                    answered = true;
                    self.view.on_listed(&source, objects, round == self.round);
                }
                Report::Changed(object) => self.view.on_changed(object),
                Report::Deleted(object) => self.view.on_deleted(&object),
                Report::Well(source) => {
                    answered = true;
                    self.view.on_well(&source);
                }
                Report::Failed { source, error } => self.view.on_failed(&source, error),
            }
        }
        self.told.problems_may_differ();
        if self.view.wants_all_read() {
            self.start_over();
        }
        let events = self.view.settle(now_unix_ms());
        self.told.items(events, self.view.source_error().map(RegistryError::from), answered)
    }

    fn start_over(&mut self) {
        self.round += 1;
        self.view.start_over();
        self.shared.round.send_replace(self.round);
    }
}

/// What is followed: each kind in the namespaces that are named, or everywhere.
fn sources(settings: &KubernetesSettings) -> Vec<Source> {
    let namespaces = &settings.namespaces;
    let mut kinds = vec![Kind::Services, Kind::Slices, Kind::Pods, Kind::Nodes];
    // Only a selector needs them.
    kinds.extend(namespaces.selector.is_some().then_some(Kind::Namespaces));
    let of_kind = |kind: Kind| match kind.is_namespaced() && !namespaces.include.is_empty() {
        true => namespaces.include.iter().map(|name| Some(Arc::from(name.as_str()))).collect(),
        false => vec![None],
    };
    kinds
        .into_iter()
        .flat_map(|kind| of_kind(kind).into_iter().map(move |namespace| Source { kind, namespace }))
        .collect()
}

fn on_ended(ended: Result<(), tokio::task::JoinError>) -> Vec<Item> {
    match ended {
        Err(error) if error.is_panic() => {
            vec![Err(
                RegistryError::source_down("a task of the Kubernetes adapter has failed").caused_by(error)
            )]
        }
        _ => Vec::new(),
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

/// Changes that are taken together.
const BATCH: usize = 128;
