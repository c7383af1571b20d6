//! The catalog: what each registry holds, and the view that results from all of them.
//!
//! Entries are kept per registry, so that none can delete or resurrect another's. An event first changes what its
//! registry holds; each key that this touched is then merged anew and compared with the view. So the view depends on
//! what is held and not on the order of events, and a change costs (registries × log of what exists) per touched key.
//! It knows no time and no freshness: a registry that is silent keeps its entries.

mod holding;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::catalog::holding::Holding;
use crate::changes::{Changes, withdraws};
use crate::entry::{Entry, EntryKey, RegistryEvent, Scope};
use crate::mapping::Mapping;
use crate::merge;
use crate::name::{InstanceId, RegistryId, ServiceKey};
use crate::service::Service;
use crate::snapshot::Snapshot;

/// Merges what all registries say. One owner, who feeds it events and hands out snapshots.
#[derive(Debug, Default)]
pub struct Catalog {
    mappings: BTreeMap<RegistryId, Mapping>,
    // The order of the ids is the precedence: the kind first, then the text.
    registries: BTreeMap<RegistryId, Holding>,
    snapshot: Snapshot,
}

impl Catalog {
    /// An empty catalog. A registry without a mapping keeps its names.
    pub fn new(mappings: BTreeMap<RegistryId, Mapping>) -> Self {
        Self { mappings, ..Self::default() }
    }

    /// Applies what a registry says, and returns exactly the keys whose merged meaning is different now.
    ///
    /// Provenance alone is no meaning: it is brought up to date in the next snapshot, but is no change.
    pub fn apply(&mut self, registry: &RegistryId, event: RegistryEvent) -> Changes {
        let holding = self.registries.entry(registry.clone()).or_insert_with(|| {
            let mapping = self.mappings.get(registry).cloned().unwrap_or_default();
            Holding::new(registry.clone(), mapping)
        });
        let touched = holding.apply(event);
        let mut changes = Changes::default();
        let mut services = touched.services;
        for id in &touched.workloads {
            self.settle_workload(id, &mut changes, &mut services);
        }
        for key in &services {
            self.settle_service(key, &mut changes);
        }
        if !changes.is_empty() {
            self.snapshot.revision = self.snapshot.revision.next();
        }
        changes
    }

    /// A registry that is followed from now on. What is held of it stays.
    pub fn admit(&mut self, registry: &RegistryId, mapping: Mapping) {
        if let Some(holding) = self.registries.get_mut(registry) {
            holding.set_mapping(mapping.clone());
        }
        self.mappings.insert(registry.clone(), mapping);
    }

    /// Takes a registry out, with all that it holds: a user's decision, and no answer of its source.
    pub fn expel(&mut self, registry: &RegistryId) -> Changes {
        let changes = self.apply(registry, RegistryEvent::Reset { scope: Scope::All, entries: Vec::new() });
        self.registries.remove(registry);
        self.mappings.remove(registry);
        changes
    }

    /// The view as it is now. Costs nothing, and never changes again.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot.clone()
    }

    /// What one registry holds, named as the mesh names it: what [`Catalog::restore`] takes.
    pub fn entries(&self, registry: &RegistryId) -> Vec<Entry> {
        self.registries.get(registry).map_or_else(Vec::new, Holding::entries)
    }

    /// One of [`Catalog::entries`].
    pub fn entry(&self, registry: &RegistryId, key: &EntryKey) -> Option<Entry> {
        self.registries.get(registry)?.entry(key)
    }

    /// Puts back what [`Catalog::entries`] gave, before the registry has said anything. Its first `Reset` of everything
    /// replaces it.
    pub fn restore(&mut self, registry: &RegistryId, entries: Vec<Entry>) -> Changes {
        let mapping = self.mappings.insert(registry.clone(), Mapping::default());
        let changes = self.apply(registry, RegistryEvent::Upsert(entries));
        let mapping = mapping.unwrap_or_default();
        if let Some(holding) = self.registries.get_mut(registry) {
            holding.set_mapping(mapping.clone());
        }
        self.mappings.insert(registry.clone(), mapping);
        changes
    }

    /// How many entries a registry holds, services and workloads.
    pub fn held_by(&self, registry: &RegistryId) -> usize {
        self.registries.get(registry).map_or(0, Holding::len)
    }

    /// Merges one workload anew. Adds the services that it joined or left to `services`: one that nobody declares
    /// comes with its first workload and goes with its last.
    fn settle_workload(
        &mut self,
        id: &InstanceId,
        changes: &mut Changes,
        services: &mut BTreeSet<ServiceKey>,
    ) {
        let after = merge::workload(self.registries.values().filter_map(|held| held.workload(id)));
        let before = self.snapshot.workload(id).cloned();
        if before == after {
            return;
        }
        let meaning_kept = match (&before, &after) {
            (Some(before), Some(after)) => before.meaning_eq(after),
            _ => false,
        };
        if !meaning_kept {
            changes.workloads.insert(id.clone());
            changes.urgent |= before.as_ref().is_some_and(|before| withdraws(before, after.as_deref()));
            let both = before.iter().chain(&after);
            services.extend(both.flat_map(|workload| workload.services.keys().cloned()));
        }
        self.snapshot.set_workload(id, after);
    }

    /// Merges one service anew. It exists while it is declared or has a workload.
    fn settle_service(&mut self, key: &ServiceKey, changes: &mut Changes) {
        let declared = merge::service(key, self.registries.values().flat_map(|held| held.declared(key)));
        let before = self.snapshot.service(key);
        let after = match declared {
            None if self.snapshot.member_count(key) > 0 => Some(Arc::new(Service::undeclared(key.clone()))),
            declared => declared,
        };
        if before != after.as_ref() {
            changes.services.insert(key.clone());
            self.snapshot.set_service(key, after);
        }
    }
}
