//! Events on Kubernetes' objects: users learn where they look what is wrong with what they wrote.
//!
//! One task a cluster reads the registry's reports and writes at its own pace; ingestion and the webhook never wait for it.
//! No replica leads: what is said has a name that follows from it (`note.rs`), and who comes second finds it there. Events
//! are told once and forgotten; what is wrong now is in `weft status`.

mod note;
mod telling;
mod write;

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use weft_injector::Reviewed;
use weft_model::{RegistryId, RegistryKind};
use weft_registry::Problem;

use crate::publish::{RegistryReport, Reports};
use crate::settings::Settings;
use note::Note;
use telling::Telling;
use write::Writer;

/// The tasks of all clusters.
pub(crate) struct Events {
    clusters: Vec<Cluster>,
    tellers: BTreeMap<RegistryId, mpsc::Sender<Note>>,
}

/// The webhook's end.
#[derive(Debug, Clone)]
pub(crate) struct Teller(Option<mpsc::Sender<Note>>);

struct Cluster {
    registry: RegistryId,
    writer: Writer,
    telling: Telling,
    reports: watch::Receiver<Reports>,
    /// What was looked at last.
    seen: Reports,
    look_at: Instant,
    skipped: mpsc::Receiver<Note>,
}

impl Events {
    /// For the registries of kind `kubernetes` in the settings.
    pub(crate) fn new(settings: &Settings, reports: &watch::Receiver<Reports>) -> Self {
        let (mut clusters, mut tellers) = (Vec::new(), BTreeMap::new());
        for one in settings.registry.iter().filter(|one| one.id.kind() == RegistryKind::Kubernetes) {
            let (teller, skipped) = mpsc::channel(MOST_TOLD);
            tellers.insert(one.id.clone(), teller);
            let now = Instant::now();
            clusters.push(Cluster {
                registry: one.id.clone(),
                writer: Writer::new(one.id.clone(), one.kubernetes.clone().unwrap_or_default()),
                telling: Telling::new(now.into_std()),
                reports: reports.clone(),
                seen: Reports::default(),
                look_at: now,
                skipped,
            });
        }
        Self { clusters, tellers }
    }

    /// Where to tell what the webhook of this cluster did.
    pub(crate) fn teller(&self, registry: &RegistryId) -> Teller {
        Teller(self.tellers.get(registry).cloned())
    }

    /// Runs for ever.
    pub(crate) async fn run(self) {
        // The senders stay: a channel that has ended would be ready at once, again and again.
        let Self { clusters, tellers: _open } = self;
        join_all(clusters.into_iter().map(Cluster::run)).await;
        pending().await
    }
}

impl Teller {
    /// Tells of a pod that was left without a proxy against expectation. Never waits: who is too late is not told of.
    pub(crate) fn tell(&self, reviewed: &Reviewed) {
        if let (Some(sender), Some(note)) = (&self.0, Note::of_review(reviewed)) {
            _ = sender.try_send(note);
        }
    }
}

impl Teller {
    /// Tells of a Secret that is to be a registry and can't be. Its uid is known: no right to read it is needed.
    pub(crate) fn tell_of_secret(&self, namespace: &str, name: &str, uid: Option<String>, problem: &str) {
        if let (Some(sender), Some(note)) = (&self.0, Note::of_secret(namespace, name, uid, problem)) {
            _ = sender.try_send(note);
        }
    }
}

impl Cluster {
    async fn run(mut self) {
        loop {
            let now = Instant::now().into_std();
            if let Some(note) = self.telling.next(now) {
                let outcome = self.writer.write(&note).await;
                self.telling.on_outcome(note, outcome, Instant::now().into_std());
                continue;
            }
            if self.telling.wants_problems() {
                self.look(true);
                continue;
            }
            let (due, look_at, reports) = (self.telling.due(now), self.look_at, &mut self.reports);
            let changed = async {
                sleep_until(look_at).await;
                reports.changed().await
            };
            tokio::select! {
                changed = changed => match changed {
                    Ok(()) => self.look(false),
                    // Ingestion has stopped, and so will this.
                    Err(_) => return,
                },
                Some(note) = self.skipped.recv() => self.telling.on_skipped(note, Instant::now().into_std()),
                () = sleep_until_some(due) => {}
            }
        }
    }

    /// Takes up the problems that there are now; where they are those of the last time, only if `again`.
    fn look(&mut self, again: bool) {
        let now = Instant::now();
        self.look_at = now + LOOK_EVERY;
        let reports = Arc::clone(&self.reports.borrow_and_update());
        let problems = problems_of(&reports, &self.registry);
        if again || problems != problems_of(&self.seen, &self.registry) {
            self.telling.on_problems(problems.iter().filter_map(Note::of_problem), now.into_std());
        }
        self.seen = reports;
    }
}

fn problems_of<'a>(reports: &'a BTreeMap<RegistryId, RegistryReport>, id: &RegistryId) -> &'a [Problem] {
    reports.get(id).map(|report| report.freshness.problems.as_slice()).unwrap_or_default()
}

async fn sleep_until_some(at: Option<std::time::Instant>) {
    match at {
        Some(at) => sleep_until(at.into()).await,
        None => pending().await,
    }
}

/// Reports come with every batch of changes, each with all problems.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Taken up at once, unless an Event is being written.
const MOST_TOLD: usize = 64;
