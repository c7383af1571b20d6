//! Ingestion: one task follows the registries and publishes the result.
//!
//! What is published when is [`Ingestion`]'s decision; here are its tasks and channels. Each registry is supervised in a
//! task of its own, so that parsing a large listing holds up nobody else; the catalog has one writer, so that there is one
//! order of events. What is known is also kept on disk ([`LastKnown`]): a control plane that restarts while a registry
//! does not answer goes on with what that registry said last.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;

use futures::StreamExt;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use weft_identity::SvidSource;
use weft_model::{Entry, Mapping, RegistryId};
use weft_proto::TrustBundle;
use weft_registry::{Registry, SuperviseSettings, Supervised, resume};
use weft_xds::{Ingestion, Source};

use crate::last_known::LastKnown;
use crate::publish::{Publication, Publisher, RegistryReport, Reports};
use crate::readiness::{Phase, stopping};

/// A registry to follow, as its settings describe it.
pub(crate) struct Followed {
    pub(crate) registry: Box<dyn Registry>,
    pub(crate) required: bool,
    pub(crate) mapping: Mapping,
    pub(crate) supervise: SuperviseSettings,
}

/// A change of what is followed, while this runs.
pub(crate) enum RegistryChange {
    /// Follow it from now on, or in another way: what is held of it stays. `awaited`: what is missing may be its.
    Follow { followed: Followed, awaited: bool },
    /// Follow it no more: what it held goes.
    Forget(RegistryId),
    /// Those that there are at the start were all told.
    AllKnown,
}

/// The one writer of publications.
pub(crate) struct Ingest {
    ingestion: Ingestion,
    reports: BTreeMap<RegistryId, RegistryReport>,
    reports_changed: bool,
    publisher: Publisher,
    identity: SvidSource,
    /// Wakes when the trust bundles may have changed.
    credentials: watch::Receiver<u64>,
    last_known: LastKnown,
    registries: Vec<Restored>,
    following: BTreeMap<RegistryId, Following>,
    followed: u64,
}

/// The task that follows a registry. What an earlier one still said of it does not count.
struct Following {
    number: u64,
    task: AbortHandle,
}

/// A registry, and what an earlier process left of it.
struct Restored {
    registry: Box<dyn Registry>,
    supervise: SuperviseSettings,
    entries: Vec<Entry>,
}

impl Ingest {
    /// Ready to follow `followed`; what was known of them before this process is published already.
    pub(crate) fn new(
        followed: Vec<Followed>,
        publisher: Publisher,
        identity: SvidSource,
        last_known: LastKnown,
        awaits_more: bool,
    ) -> Self {
        let report = |required| RegistryReport { required, ..RegistryReport::default() };
        let reports: BTreeMap<_, _> =
            followed.iter().map(|one| (one.registry.id().clone(), report(one.required))).collect();
        let (sources, registries) = followed.into_iter().map(|one| restore(one, &last_known)).unzip();
        let mut ingest = Self {
            ingestion: Ingestion::new(sources, Instant::now().into_std()),
            reports,
            reports_changed: true,
            publisher,
            credentials: identity.subscribe(),
            identity,
            last_known,
            registries,
            following: BTreeMap::new(),
            followed: 0,
        };
        if awaits_more {
            ingest.ingestion.await_more();
        }
        ingest.publish(true);
        ingest
    }

    /// Follows the registries until `phase` says to stop, and then stores what is not stored yet.
    pub(crate) async fn run(
        mut self,
        mut phase: watch::Receiver<Phase>,
        mut changes: mpsc::Receiver<RegistryChange>,
    ) {
        // A registry that says more than this waits until the catalog has caught up: back-pressure, not memory.
        let (sender, mut said) = mpsc::channel(64);
        let mut tasks = JoinSet::new();
        for restored in std::mem::take(&mut self.registries) {
            self.follow(restored, &mut tasks, &sender);
        }
        let mut items = Vec::new();
        loop {
            let mut at_once = false;
            tokio::select! {
                // `sender` is alive in this function, so the channel does not end.
                _ = said.recv_many(&mut items, 256) => {
                    items.drain(..).for_each(|(number, item)| self.take_from(number, item));
                }
                // Without anybody who could change something this branch is never taken.
                Some(change) = changes.recv() => self.change(change, &mut tasks, &sender),
                () = sleep_until_std(self.ingestion.due()) => {}
                Ok(()) = self.credentials.changed() => at_once = true,
                () = self.last_known.due() => self.last_known.write(self.ingestion.catalog()),
                () = stopping(&mut phase) => break,
            }
            self.publish(at_once);
        }
        self.last_known.finish(self.ingestion.catalog()).await;
    }

    fn follow(
        &mut self,
        restored: Restored,
        tasks: &mut JoinSet<()>,
        sender: &mpsc::Sender<(u64, Supervised)>,
    ) {
        let id = restored.registry.id().clone();
        self.followed += 1;
        let number = self.followed;
        let task = tasks.spawn(follow(restored, number, sender.clone()));
        if let Some(before) = self.following.insert(id, Following { number, task }) {
            before.task.abort();
        }
    }

    fn change(
        &mut self,
        change: RegistryChange,
        tasks: &mut JoinSet<()>,
        sender: &mpsc::Sender<(u64, Supervised)>,
    ) {
        // Tasks that were ended before.
        while tasks.try_join_next().is_some() {}
        self.reports_changed = true;
        let now = Instant::now().into_std();
        match change {
            RegistryChange::Follow { followed, awaited } => {
                let id = followed.registry.id().clone();
                self.report(&id).required = followed.required;
                let (source, mut restored) = restore(followed, &self.last_known);
                self.ingestion.add(source, awaited, now);
                restored.entries = self.ingestion.catalog().entries(&id);
                self.follow(restored, tasks, sender);
            }
            RegistryChange::Forget(id) => {
                if let Some(before) = self.following.remove(&id) {
                    before.task.abort();
                }
                self.ingestion.remove(&id, now);
                self.last_known.forget(&id);
                self.reports.remove(&id);
            }
            RegistryChange::AllKnown => self.ingestion.all_known(),
        }
    }

    /// Takes what the task of this number says, if it is the one that follows its registry now.
    fn take_from(&mut self, number: u64, item: Supervised) {
        let (Supervised::Event(id, _) | Supervised::Freshness(id, _)) = &item;
        if self.following.get(id).is_some_and(|following| following.number == number) {
            self.take(item);
        }
    }

    fn take(&mut self, item: Supervised) {
        self.reports_changed = true;
        match item {
            Supervised::Event(id, event) => {
                if let Some(changes) = self.ingestion.apply(&id, event, Instant::now().into_std()) {
                    self.last_known.changed(&id, changes);
                }
                self.report(&id).events += 1;
            }
            Supervised::Freshness(id, freshness) => {
                if freshness.has_synced() && self.ingestion.heard(&id) {
                    self.last_known.heard(&id);
                    if self.ingestion.published().is_complete() {
                        tracing::info!("every registry has been heard; what none of them has is gone");
                    }
                }
                self.report(&id).freshness = freshness;
            }
        }
    }

    fn report(&mut self, id: &RegistryId) -> &mut RegistryReport {
        self.reports.entry(id.clone()).or_default()
    }

    /// Publishes what is due. `now`: also what is not.
    fn publish(&mut self, now: bool) {
        let at = Instant::now();
        let identity = &self.identity;
        if let Some(since) = self.ingestion.publish(now, at.into_std(), || bundles(identity)) {
            let publication = Publication {
                snapshot: self.ingestion.snapshot(),
                resources: self.ingestion.published().clone(),
                since: since.into(),
            };
            self.publisher.state.send_replace(Arc::new(publication));
        }
        // After the state: who reads that a registry has synced finds what it said.
        if self.reports_changed && self.ingestion.due().is_none() {
            self.reports_changed = false;
            for (id, report) in &mut self.reports {
                report.entries = self.ingestion.catalog().held_by(id);
                report.unheard = self.ingestion.is_unheard(id);
            }
            self.publisher.reports.send_replace(Reports::new(self.reports.clone()));
        }
    }
}

/// A registry, and what is left of it.
fn restore(followed: Followed, last_known: &LastKnown) -> (Source, Restored) {
    let Followed { registry, mapping, supervise, .. } = followed;
    let (id, stored) = (registry.id().clone(), last_known.read(registry.id()));
    let entries = stored.clone().unwrap_or_default();
    (Source { id, mapping, stored }, Restored { registry, supervise, entries })
}

fn bundles(identity: &SvidSource) -> Vec<TrustBundle> {
    let credentials = identity.current();
    let bundles = credentials.iter().flat_map(|credentials| credentials.bundles.iter());
    bundles
        .map(|bundle| TrustBundle {
            trust_domain: bundle.trust_domain.clone(),
            roots: bundle.roots.iter().map(|root| root.as_ref().to_vec().into()).collect(),
        })
        .collect()
}

/// Hands on what one registry says, in order.
async fn follow(restored: Restored, number: u64, sender: mpsc::Sender<(u64, Supervised)>) {
    let Restored { registry, supervise, entries } = restored;
    let mut said = std::pin::pin!(resume(registry, supervise, &entries));
    drop(entries);
    while let Some(item) = said.next().await {
        if sender.send((number, item)).await.is_err() {
            return;
        }
    }
}

async fn sleep_until_std(at: Option<std::time::Instant>) {
    match at {
        Some(at) => sleep_until(at.into()).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests;
