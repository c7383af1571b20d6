//! `GET /v1/services`, `/v1/workloads` and `/v1/snapshot`: the merged state as it is served.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use weft_model::{Health, RegistryId, Service, Workload};

/// One service with a summary of its workloads. `/v1/workloads` lists [`Workload`]s themselves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceView {
    /// The service, as merged.
    #[serde(flatten)]
    pub service: Service,
    /// Its workloads by health.
    pub workloads: HealthCount,
    /// The registries that its workloads come from.
    pub registries: BTreeSet<RegistryId>,
}

/// Workloads by health.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCount {
    /// They pass their checks.
    pub healthy: usize,
    /// They finish what they have.
    pub draining: usize,
    /// They fail their checks.
    pub unhealthy: usize,
    /// Nobody checks them; they are used.
    pub unknown: usize,
}

impl HealthCount {
    /// Counts one more.
    pub fn add(&mut self, health: Health) {
        match health {
            Health::Healthy => self.healthy += 1,
            Health::Draining => self.draining += 1,
            Health::Unhealthy => self.unhealthy += 1,
            Health::Unknown => self.unknown += 1,
        }
    }

    /// Those that take new requests.
    pub fn usable(&self) -> usize {
        self.healthy + self.unknown
    }

    /// All.
    pub fn total(&self) -> usize {
        self.healthy + self.draining + self.unhealthy + self.unknown
    }
}

/// The whole state of one revision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotView {
    /// The revision.
    pub revision: u64,
    /// Every service, sorted by namespace and name.
    pub services: Vec<Service>,
    /// Every workload, sorted by id.
    pub workloads: Vec<Workload>,
}
