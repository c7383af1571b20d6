//! From what registries say to what is published: the catalog, what waits, what is unheard. Sans-IO.
//!
//! One owner of the catalog feeds it events and asks when to publish. Where nothing complete is known of a registry (not
//! listed by this process, nothing left by an earlier one), the publications say that they are not complete, and proxies keep
//! what they have. Tasks, channels and the disk are `weft-control`'s; so is the log.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use weft_model::{Catalog, Changes, Entry, Mapping, RegistryEvent, RegistryId, Snapshot};
use weft_proto::TrustBundle;

use crate::batch::{Batch, BatchSettings};
use crate::published::Published;

/// A registry that is to be followed.
#[derive(Debug)]
pub struct Source {
    /// Which one.
    pub id: RegistryId,
    /// How its services are named in the mesh.
    pub mapping: Mapping,
    /// What an earlier process left of it; `None` where that is nothing good.
    pub stored: Option<Vec<Entry>>,
}

/// The owner of the catalog.
#[derive(Debug)]
pub struct Ingestion {
    catalog: Catalog,
    batch: Batch,
    published: Published,
    /// When the oldest change in the batch arrived.
    since: Option<Instant>,
    /// Registries of which nothing complete is known.
    unheard: BTreeSet<RegistryId>,
    /// Which registries there are is itself not known in full yet.
    awaits_more: bool,
    /// Publish the next time, due or not.
    at_once: bool,
}

impl Ingestion {
    /// Ready to take what `sources` say. What was known of them before waits to be published.
    pub fn new(sources: Vec<Source>, now: Instant) -> Self {
        let mappings: BTreeMap<_, _> =
            sources.iter().map(|source| (source.id.clone(), source.mapping.clone())).collect();
        let unheard = sources.iter().filter(|source| source.stored.is_none());
        let unheard: BTreeSet<RegistryId> = unheard.map(|source| source.id.clone()).collect();
        let published = if unheard.is_empty() { Published::default() } else { Published::unheard() };
        let (catalog, batch) = (Catalog::new(mappings), Batch::new(BatchSettings::default()));
        let mut ingestion =
            Self { catalog, batch, published, since: None, unheard, awaits_more: false, at_once: true };
        for Source { id, stored, .. } in sources {
            let changes = ingestion.catalog.restore(&id, stored.unwrap_or_default());
            ingestion.note(changes, now);
        }
        ingestion
    }

    /// Applies what a registry says. Returns in what the stored copy of it is behind now: only what was listed completely
    /// is worth storing.
    pub fn apply(&mut self, id: &RegistryId, event: RegistryEvent, now: Instant) -> Option<Changes> {
        let changes = self.catalog.apply(id, event);
        let behind = !changes.is_empty() && !self.unheard.contains(id);
        let behind = behind.then(|| changes.clone());
        self.note(changes, now);
        behind
    }

    /// A registry has listed everything. Returns whether that is news, and all of it is to be stored: also that it lists
    /// nothing is worth storing.
    pub fn heard(&mut self, id: &RegistryId) -> bool {
        let news = self.unheard.remove(id);
        self.complete();
        news
    }

    fn complete(&mut self) {
        if self.unheard.is_empty() && !self.awaits_more && !self.published.is_complete() {
            // It is known only now that what is not there does not exist, and proxies wait for that.
            self.published = std::mem::take(&mut self.published).all_heard();
            self.at_once = true;
        }
    }

    /// Which registries there are is not known in full yet: until [`Ingestion::all_known`] nothing that is missing counts as
    /// gone. Before the first publication only.
    pub fn await_more(&mut self) {
        self.awaits_more = true;
        self.published = Published::unheard();
    }

    /// All registries that there are at the start are known.
    pub fn all_known(&mut self) {
        self.awaits_more = false;
        self.complete();
    }

    /// A registry is followed from now on, or in another way. `awaited`: what is missing may be its, until it was heard.
    pub fn add(&mut self, source: Source, awaited: bool, now: Instant) {
        let Source { id, mapping, stored } = source;
        let is_new = self.catalog.held_by(&id) == 0;
        self.catalog.admit(&id, mapping);
        if awaited && is_new && stored.is_none() {
            self.unheard.insert(id.clone());
        }
        if let (true, Some(entries)) = (is_new, stored) {
            let changes = self.catalog.restore(&id, entries);
            self.note(changes, now);
        }
    }

    /// A registry is followed no more: what it held goes.
    pub fn remove(&mut self, id: &RegistryId, now: Instant) {
        let changes = self.catalog.expel(id);
        self.unheard.remove(id);
        self.note(changes, now);
        self.complete();
    }

    /// Whether nothing complete is known of a registry.
    pub fn is_unheard(&self, id: &RegistryId) -> bool {
        self.unheard.contains(id)
    }

    /// When to publish what waits; `None` while nothing does.
    pub fn due(&self) -> Option<Instant> {
        self.batch.due()
    }

    /// Publishes what is due at `now`, or all that waits where there is a reason not to wait: everything was heard, or
    /// `at_once` (the trust bundles changed). Returns when the oldest of it arrived; `None` where nothing is due.
    /// `bundles` are all there are then.
    pub fn publish(
        &mut self,
        at_once: bool,
        now: Instant,
        bundles: impl FnOnce() -> Vec<TrustBundle>,
    ) -> Option<Instant> {
        let changes = match std::mem::take(&mut self.at_once) || at_once {
            true => self.batch.take_all(now),
            false => self.batch.take(now)?,
        };
        self.published = self.published.advance(&self.catalog.snapshot(), &changes, &bundles());
        Some(self.since.take().unwrap_or(now))
    }

    /// What was published last.
    pub fn published(&self) -> &Published {
        &self.published
    }

    /// The mesh as it is known now, published or not.
    pub fn snapshot(&self) -> Snapshot {
        self.catalog.snapshot()
    }

    /// The catalog, to store what a registry holds.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    fn note(&mut self, changes: Changes, now: Instant) {
        if !changes.is_empty() {
            self.since.get_or_insert(now);
        }
        self.batch.add(changes, now);
    }
}
