//! What all streams serve from: the resources, and a bounded log of the last changes.
//!
//! A stream that is a few publications behind looks only at what these changed; one that is further behind than the log
//! reaches compares its subscriptions. So the cost of one change does not depend on how much exists, and a slow
//! client costs a number, not a queue.

use std::sync::Arc;

use imbl::Vector;
use weft_model::{Changes, Revision, Snapshot};
use weft_proto::TrustBundle;

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
        self.services.len() + self.workloads.len() + self.bundles.len()
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
}

/// Publications that are remembered: at the most 10 ms apart that is 2.5 s, longer than any healthy client is behind.
const LOG_LENGTH: usize = 256;
/// Names in all remembered publications. Beyond it a comparison is cheaper than the log.
const LOG_NAMES: usize = 65_536;

impl Published {
    /// The next publication: `snapshot` differs from the one before by `changes`; `bundles` are all there are.
    #[must_use]
    pub fn advance(&self, snapshot: &Snapshot, changes: &Changes, bundles: &[TrustBundle]) -> Published {
        let (resources, changed) = self.resources.advance(snapshot, changes, bundles);
        let mut next = Published { resources, revision: snapshot.revision, ..self.clone() };
        next.sequence += 1;
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
