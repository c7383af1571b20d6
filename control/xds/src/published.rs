//! What all streams serve from: the resources, and a bounded log of the last changes.
//!
//! A stream that is a few publications behind looks only at what these changed; one that is further behind than the log
//! reaches compares its subscriptions. So the cost of one change does not depend on how much exists, and a slow
//! client costs a number, not a queue.
//!
//! After a start some registries may not have been heard yet. What is missing may then be theirs, and is *undecided*: it
//! is neither removed nor called absent until everything was heard ([`Published::all_heard`]).

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::{OrdSet, Vector};
use weft_model::{Changes, NetworkAddress, Revision, Snapshot};
use weft_proto::{ResourceType, TrustBundle};

use crate::resource_set::ResourceSet;

/// Names whose resources one publication changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// Services that are new, changed or gone.
    pub services: Vec<Arc<str>>,
    /// Workloads that are new, changed or gone.
    pub workloads: Vec<ChangedWorkload>,
    /// Trust bundles that are new, changed or gone.
    pub bundles: Vec<Arc<str>>,
    /// Addresses of services and workloads that changed: whose they are may be different now.
    pub addresses: BTreeSet<NetworkAddress>,
}

/// A changed workload, and every service whose callers it concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedWorkload {
    /// The workload.
    pub name: Arc<str>,
    /// The services it belonged to before, or belongs to now.
    pub services: Box<[Arc<str>]>,
}

impl Changed {
    /// Whether no resource changed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        self.services.len() + self.workloads.len() + self.bundles.len() + self.addresses.len()
    }
}

/// The resources of one moment and how they came about. A clone costs nothing.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// What can be subscribed to.
    pub resources: ResourceSet,
    /// The revision of the snapshot behind it, for people: it goes out as `system_version_info`.
    pub revision: Revision,
    // Counts publications, since a trust bundle changes without a new revision of the catalog.
    sequence: u64,
    // The last of these led to `sequence`, the one before it to `sequence - 1`, and so on.
    log: Vector<Arc<Changed>>,
    logged_names: usize,
    // While something was not heard yet.
    unheard: Option<Unheard>,
}

/// What is known of absence while a registry was not heard yet.
#[derive(Debug, Clone, Default)]
struct Unheard {
    // Workloads that registries which were heard have since removed, or taken out of a service: gone, not unknown.
    withdrawn: OrdSet<Arc<str>>,
}

/// Publications that are remembered: at the most 10 ms apart that is 2.5 s, longer than any healthy client is behind.
const LOG_LENGTH: usize = 256;
/// Names in all remembered publications. Beyond it a comparison is cheaper than the log.
const LOG_NAMES: usize = 65_536;
/// Withdrawn workloads that are remembered. One that is forgotten is undecided again, which takes nothing away.
const WITHDRAWN: usize = 65_536;

impl Published {
    /// Nothing yet, of a process that has registries to hear which left nothing on disk either.
    pub fn unheard() -> Published {
        Published { unheard: Some(Unheard::default()), ..Published::default() }
    }

    /// The same once everything was heard: what is not there does not exist.
    #[must_use]
    pub fn all_heard(self) -> Published {
        Published { unheard: None, ..self }
    }

    /// Whether everything that can exist was heard.
    pub fn is_complete(&self) -> bool {
        self.unheard.is_none()
    }

    /// Whether a name that this publication does not show may exist all the same, in a registry not heard yet.
    ///
    /// A service may be in several registries, so that its removal by one says nothing of the others. A workload has
    /// one orchestrator: who removes it knows.
    pub fn is_undecided(&self, kind: ResourceType, name: &str) -> bool {
        let Some(unheard) = &self.unheard else { return false };
        match kind {
            ResourceType::TrustBundle => false,
            ResourceType::Service => self.resources.service(name).is_none(),
            ResourceType::Workload => !unheard.withdrawn.contains(name),
            ResourceType::Address => self.resources.address(name).is_none(),
        }
    }

    /// The next publication: `snapshot` differs from the one before by `changes`; `bundles` are all there are.
    #[must_use]
    pub fn advance(&self, snapshot: &Snapshot, changes: &Changes, bundles: &[TrustBundle]) -> Published {
        let (resources, changed) = self.resources.advance(snapshot, changes, bundles);
        let mut next = Published { resources, revision: snapshot.revision, ..self.clone() };
        next.sequence += 1;
        if let Some(unheard) = &mut next.unheard {
            changed.workloads.iter().for_each(|workload| unheard.note(workload, &next.resources));
        }
        next.logged_names += changed.len();
        next.log.push_back(Arc::new(changed));
        while next.log.len() > LOG_LENGTH || next.logged_names > LOG_NAMES {
            let Some(forgotten) = next.log.pop_front() else { break };
            next.logged_names -= forgotten.len();
        }
        next
    }

    /// The number of this publication within the process.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// What changed after publication `sequence`, or `None` where the log does not reach back that far.
    pub fn since(&self, sequence: u64) -> Option<impl Iterator<Item = &Changed>> {
        let behind = usize::try_from(self.sequence.checked_sub(sequence)?).ok()?;
        let skip = self.log.len().checked_sub(behind)?;
        Some(self.log.iter().skip(skip).map(Arc::as_ref))
    }
}

impl Unheard {
    fn note(&mut self, changed: &ChangedWorkload, resources: &ResourceSet) {
        let now = resources.services_of(&changed.name);
        if changed.services.iter().all(|service| now.contains(service)) {
            self.withdrawn.remove(&changed.name);
            return;
        }
        if self.withdrawn.len() >= WITHDRAWN {
            self.withdrawn.remove_min();
        }
        self.withdrawn.insert(changed.name.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(n: u16) -> TrustBundle {
        let roots = vec![vec![0x30, (n >> 8) as u8, n as u8].into()];
        TrustBundle { trust_domain: "mesh.test".parse().unwrap(), roots }
    }

    fn publications(n: u16) -> Published {
        let publish = |published: Published, n| {
            published.advance(&Snapshot::default(), &Changes::default(), &[bundle(n)])
        };
        (0..n).fold(Published::default(), publish)
    }

    #[test]
    fn the_log_says_what_changed_since_and_nothing_where_it_does_not_reach() {
        let published = publications(300);
        assert_eq!(published.since(300).unwrap().count(), 0);
        assert_eq!(published.since(297).unwrap().count(), 3);
        assert_eq!(published.since(300 - LOG_LENGTH as u64).unwrap().count(), LOG_LENGTH);
        assert!(published.since(300 - LOG_LENGTH as u64 - 1).is_none());
        assert!(published.since(301).is_none());
    }

    #[test]
    fn a_publication_that_changes_no_resource_is_logged_as_empty() {
        let published = publications(1);
        let same = published.advance(&Snapshot::default(), &Changes::default(), &[bundle(0)]);
        assert!(same.since(1).unwrap().all(Changed::is_empty));
        assert_eq!(same.since(1).unwrap().count(), 1);
    }
}
