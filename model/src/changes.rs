//! What a change of the catalog changed, and the revision that it led to.
//!
//! Only keys: the values are in the snapshot, before and after. A set and not a list, so that changes which wait to be
//! sent grow with what changed and not with how often it did.
//! It does not say what changed about a key: who needs that compares two snapshots.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::name::{InstanceId, ServiceKey};
use crate::workload::Workload;

/// The number of a snapshot within one process: it grows by one with every change of meaning. Not comparable between
/// processes; what travels is a hash of meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// The one after this.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The keys whose meaning differs between two snapshots: new, changed or gone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Changes {
    /// Services whose own description differs. A workload that comes or goes does not change its service, unless it
    /// is the first or last of one that nobody declares.
    pub services: BTreeSet<ServiceKey>,
    /// Workloads whose description differs, their list of services included.
    pub workloads: BTreeSet<InstanceId>,
    /// Something that took new work is gone or stopped taking it: each millisecond until this is known fails calls.
    pub urgent: bool,
}

impl Changes {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.workloads.is_empty()
    }

    /// Adds what a later change changed. What changed and changed back stays listed: to look at a key once more is
    /// cheap, to miss one is not.
    pub fn absorb(&mut self, later: Changes) {
        self.services.extend(later.services);
        self.workloads.extend(later.workloads);
        self.urgent |= later.urgent;
    }
}

/// Whether work that went to `before` may not go there any more: it is gone, takes nothing new, left a service or
/// a port, or is no longer reached or proven in the same way.
pub(crate) fn withdraws(before: &Workload, after: Option<&Workload>) -> bool {
    if !takes_work(before) {
        return false;
    }
    let Some(after) = after.filter(|after| takes_work(after)) else { return true };
    let reached_differently = before.network != after.network
        || before.tunnel != after.tunnel
        || before.captured != after.captured
        || before.identity != after.identity
        || before.addresses.iter().any(|address| !after.addresses.contains(address));
    reached_differently
        || before.services.iter().any(|(key, ports)| {
            after.services.get(key).is_none_or(|left| {
                ports.iter().any(|port| !left.iter().any(|other| other.number == port.number))
            })
        })
}

/// Whether anything new is sent there now.
fn takes_work(workload: &Workload) -> bool {
    workload.health.takes_new_work()
        && workload.weight > 0
        && !workload.services.is_empty()
        && !workload.addresses.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(names: &[&str], urgent: bool) -> Changes {
        let services = names.iter().map(|name| name.parse().unwrap()).collect();
        Changes { services, urgent, ..Changes::default() }
    }

    #[test]
    fn absorbing_keeps_both_and_stays_urgent() {
        let mut changes = services(&["a", "b"], true);
        changes.absorb(services(&["b", "c"], false));
        assert_eq!(changes, services(&["a", "b", "c"], true));
        changes.absorb(Changes::default());
        assert_eq!(changes, services(&["a", "b", "c"], true));
    }

    #[test]
    fn what_waits_becomes_urgent_with_the_first_change_that_is() {
        let mut changes = services(&["a"], false);
        changes.absorb(services(&["b"], false));
        assert!(!changes.urgent);
        changes.absorb(services(&[], true));
        assert!(changes.urgent);
    }

    #[test]
    fn nothing_changed_is_empty() {
        assert!(Changes::default().is_empty());
        assert!(!services(&["a"], false).is_empty());
    }
}
