//! All pods by uid, and by the node that they are on.

use std::collections::{HashMap, HashSet};

use weft_model::InstanceId;

use crate::convert::PodFacts;
use crate::object::ObjectKey;

#[derive(Debug, Default)]
pub(super) struct Pods {
    by_id: HashMap<InstanceId, PodFacts>,
    // No empty set.
    by_node: HashMap<Box<str>, HashSet<InstanceId>>,
}

impl Pods {
    pub(super) fn get(&self, id: &InstanceId) -> Option<&PodFacts> {
        self.by_id.get(id)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &InstanceId> {
        self.by_id.keys()
    }

    pub(super) fn named(&self) -> impl Iterator<Item = (InstanceId, ObjectKey)> {
        self.by_id.iter().map(|(id, pod)| (id.clone(), pod.key.clone()))
    }

    pub(super) fn in_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a InstanceId> {
        self.by_id.iter().filter(move |(_, pod)| pod.key.namespace() == namespace).map(|(id, _)| id)
    }

    pub(super) fn on_node(&self, node: &str) -> impl Iterator<Item = &InstanceId> {
        self.by_node.get(node).into_iter().flatten()
    }

    /// Sets a pod or takes it away. Whether that is anything new.
    pub(super) fn put(&mut self, id: &InstanceId, after: Option<PodFacts>) -> bool {
        if self.by_id.get(id) == after.as_ref() {
            return false;
        }
        let node_after = after.as_ref().and_then(|pod| pod.node.clone());
        let before = match after {
            Some(after) => self.by_id.insert(id.clone(), after),
            None => self.by_id.remove(id),
        };
        let node_before = before.and_then(|pod| pod.node);
        if node_before != node_after {
            if let Some(node) = node_before {
                self.leave(&node, id);
            }
            if let Some(node) = node_after {
                self.by_node.entry(node).or_default().insert(id.clone());
            }
        }
        true
    }

    fn leave(&mut self, node: &str, id: &InstanceId) {
        let Some(ids) = self.by_node.get_mut(node) else { return };
        ids.remove(id);
        if ids.is_empty() {
            self.by_node.remove(node);
        }
    }
}
