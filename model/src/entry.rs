//! What a registry says: entries, and the events that carry them.
//!
//! The vocabulary is list-and-watch with an explicit "this is everything". An error is not among it: errors are items
//! of the adapter's stream and never remove anything.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::name::{InstanceId, ServiceKey};
use crate::service::Service;
use crate::workload::Workload;

/// One object of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A declared service. Registries without service objects (Consul, Nomad) send none; there a service exists
    /// while it has workloads.
    Service(Service),
    /// A running instance. Shared: there are many, and adapter, catalog and store hold the same one.
    Workload(Arc<Workload>),
}

impl From<Workload> for Entry {
    fn from(workload: Workload) -> Self {
        Self::Workload(Arc::new(workload))
    }
}

impl Entry {
    /// The entry's key within its registry.
    pub fn key(&self) -> EntryKey {
        match self {
            Self::Service(service) => EntryKey::Service(service.key.clone()),
            Self::Workload(workload) => EntryKey::Workload(workload.id.clone()),
        }
    }
}

/// The key of an [`Entry`] within its registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EntryKey {
    /// A declared service.
    Service(ServiceKey),
    /// An instance.
    Workload(InstanceId),
}

/// How much a [`RegistryEvent::Reset`] speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All that the registry holds.
    All,
    /// These services: their own entries, and each workload that belongs to at least one of them. Consul and Nomad list
    /// one service at a time; several vanish at once when the list of services shrinks.
    Services(Vec<ServiceKey>),
}

/// A change in one registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryEvent {
    /// All there is within the scope. What this registry held there and is not listed is gone.
    Reset {
        /// What `entries` is complete for.
        scope: Scope,
        /// All there is.
        entries: Vec<Entry>,
    },
    /// These are new or changed.
    Upsert(Vec<Entry>),
    /// These are gone.
    Remove(Vec<EntryKey>),
}
