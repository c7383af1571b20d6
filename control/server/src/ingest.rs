//! Ingestion: one task owns the catalog, applies what the registries say and publishes the result.
//!
//! Each registry is supervised in a task of its own, so that parsing a large listing holds up nobody else; the
//! catalog has one writer, so that there is one order of events. What is published when is [`Batch`]'s decision:
//! removals at once, updates in company. What is known is also kept on disk ([`LastKnown`]): a control plane that
//! restarts while a registry does not answer goes on with what that registry said last. Where nothing is kept either,
//! the publications say that they are not complete, and proxies keep what they have.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::Arc;

use futures::StreamExt;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use weft_identity::SvidSource;
use weft_model::{Catalog, Changes, Entry, Mapping, RegistryId};
use weft_proto::TrustBundle;
use weft_registry::{Registry, SuperviseSettings, Supervised, resume};
use weft_xds::{Batch, BatchSettings};

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

/// The owner of the catalog.
pub(crate) struct Ingest {
    catalog: Catalog,
    batch: Batch,
    resources: weft_xds::Published,
    reports: BTreeMap<RegistryId, RegistryReport>,
    reports_changed: bool,
    /// When the oldest change in the batch arrived.
    since: Option<Instant>,
    publisher: Publisher,
    identity: SvidSource,
    /// Wakes when the trust bundles may have changed.
    credentials: watch::Receiver<u64>,
    last_known: LastKnown,
    /// Registries of which nothing complete is known: not listed by this process, and nothing left by an earlier one.
    unheard: BTreeSet<RegistryId>,
    registries: Vec<Restored>,
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
    ) -> Self {
        let mappings = followed.iter().map(|one| (one.registry.id().clone(), one.mapping.clone())).collect();
        let report = |required| RegistryReport { required, ..RegistryReport::default() };
        let reports: BTreeMap<_, _> =
            followed.iter().map(|one| (one.registry.id().clone(), report(one.required))).collect();
        let mut ingest = Self {
            catalog: Catalog::new(mappings),
            batch: Batch::new(BatchSettings::default()),
            resources: weft_xds::Published::default(),
            reports,
            reports_changed: true,
            since: None,
            publisher,
            credentials: identity.subscribe(),
            identity,
            last_known,
            unheard: BTreeSet::new(),
            registries: Vec::new(),
        };
        ingest.registries = followed.into_iter().map(|one| ingest.restore(one)).collect();
        if !ingest.unheard.is_empty() {
            ingest.resources = weft_xds::Published::unheard();
        }
        ingest.publish(true);
        ingest
    }

    /// Follows the registries until `phase` says to stop, and then stores what is not stored yet.
    pub(crate) async fn run(mut self, mut phase: watch::Receiver<Phase>) {
        // A registry that says more than this waits until the catalog has caught up: back-pressure, not memory.
        let (sender, mut said) = mpsc::channel(64);
        let mut tasks = JoinSet::new();
        for restored in self.registries.drain(..) {
            tasks.spawn(follow(restored, sender.clone()));
        }
        let mut items = Vec::new();
        loop {
            let mut at_once = false;
            tokio::select! {
                // `sender` is alive in this function, so the channel does not end.
                _ = said.recv_many(&mut items, 256) => {
                    items.drain(..).for_each(|item| self.take(item));
                    at_once = self.hear_all();
                }
                () = sleep_until_std(self.batch.due()) => {}
                Ok(()) = self.credentials.changed() => at_once = true,
                () = self.last_known.write_due() => self.last_known.write(&self.catalog).await,
                () = stopping(&mut phase) => break,
            }
            self.publish(at_once);
        }
        self.last_known.write(&self.catalog).await;
    }

    fn restore(&mut self, followed: Followed) -> Restored {
        let Followed { registry, supervise, .. } = followed;
        let stored = self.last_known.read(registry.id());
        if stored.is_none() {
            self.unheard.insert(registry.id().clone());
        }
        let entries = stored.unwrap_or_default();
        let changes = self.catalog.restore(registry.id(), entries.clone());
        self.note(changes);
        Restored { registry, supervise, entries }
    }

    /// Whether it is known only now that what is not there does not exist: that is published at once, since proxies wait
    /// for it.
    fn hear_all(&mut self) -> bool {
        let now = self.unheard.is_empty() && !self.resources.is_complete();
        if now {
            tracing::info!("every registry has been heard; what none of them has is gone");
            self.resources = std::mem::take(&mut self.resources).all_heard();
        }
        now
    }

    fn take(&mut self, item: Supervised) {
        self.reports_changed = true;
        match item {
            Supervised::Event(id, event) => {
                let changes = self.catalog.apply(&id, event);
                self.report(&id).events += 1;
                if !changes.is_empty() && !self.unheard.contains(&id) {
                    self.last_known.changed(&id);
                }
                self.note(changes);
            }
            Supervised::Freshness(id, freshness) => {
                // Stored also if it listed nothing: that is known, too.
                if freshness.has_synced() && self.unheard.remove(&id) {
                    self.last_known.changed(&id);
                }
                self.report(&id).freshness = freshness;
            }
        }
    }

    fn note(&mut self, changes: Changes) {
        if !changes.is_empty() {
            self.since.get_or_insert_with(Instant::now);
        }
        self.batch.add(changes, Instant::now().into_std());
    }

    fn report(&mut self, id: &RegistryId) -> &mut RegistryReport {
        self.reports.entry(id.clone()).or_default()
    }

    /// Publishes what is due. `now`: also what is not.
    fn publish(&mut self, now: bool) {
        let due = match now {
            true => Some(self.batch.take_all()),
            false => self.batch.take(Instant::now().into_std()),
        };
        if let Some(changes) = due {
            let snapshot = self.catalog.snapshot();
            self.resources = self.resources.advance(&snapshot, &changes, &self.bundles());
            let since = self.since.take().unwrap_or_else(Instant::now);
            let publication = Publication { snapshot, resources: self.resources.clone(), since };
            self.publisher.state.send_replace(Arc::new(publication));
        }
        // After the state: who reads that a registry has synced finds what it said.
        if self.reports_changed && self.batch.due().is_none() {
            self.reports_changed = false;
            for (id, report) in &mut self.reports {
                report.entries = self.catalog.held_by(id);
                report.unheard = self.unheard.contains(id);
            }
            self.publisher.reports.send_replace(Reports::new(self.reports.clone()));
        }
    }

    fn bundles(&self) -> Vec<TrustBundle> {
        let credentials = self.identity.current();
        let bundles = credentials.iter().flat_map(|credentials| credentials.bundles.iter());
        bundles
            .map(|bundle| TrustBundle {
                trust_domain: bundle.trust_domain.clone(),
                roots: bundle.roots.iter().map(|root| root.as_ref().to_vec().into()).collect(),
            })
            .collect()
    }
}

/// Hands on what one registry says, in order.
async fn follow(restored: Restored, sender: mpsc::Sender<Supervised>) {
    let Restored { registry, supervise, entries } = restored;
    let mut said = std::pin::pin!(resume(registry, supervise, &entries));
    drop(entries);
    while let Some(item) = said.next().await {
        if sender.send(item).await.is_err() {
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
