//! All slices, by their service and by the instances in them.
//!
//! A slice that is replaced yields the instances for which it means something else now, and no others.

use std::collections::{BTreeSet, HashMap};

use weft_model::InstanceId;

use crate::convert::{EndpointFacts, SliceFacts};
use crate::object::ObjectKey;

#[derive(Debug, Default)]
pub(super) struct Slices {
    by_key: HashMap<ObjectKey, SliceFacts>,
    by_service: HashMap<ObjectKey, BTreeSet<ObjectKey>>,
    // A handful each; no empty one.
    by_instance: HashMap<InstanceId, Vec<ObjectKey>>,
}

impl Slices {
    pub(super) fn get(&self, key: &ObjectKey) -> Option<&SliceFacts> {
        self.by_key.get(key)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.by_key.keys()
    }

    pub(super) fn instances(&self) -> impl Iterator<Item = &InstanceId> {
        self.by_instance.keys()
    }

    pub(super) fn slices_of(&self, service: &ObjectKey) -> impl Iterator<Item = (&ObjectKey, &SliceFacts)> {
        let keys = self.by_service.get(service).into_iter().flatten();
        keys.filter_map(|key| Some((key, self.by_key.get(key)?)))
    }

    /// The instances in the slices of a service.
    pub(super) fn of_service(&self, service: &ObjectKey) -> impl Iterator<Item = &InstanceId> {
        self.slices_of(service).flat_map(|(_, slice)| &slice.endpoints).map(|(id, _)| id)
    }

    pub(super) fn in_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a InstanceId> {
        let slices = self.by_key.iter().filter(move |(key, _)| key.namespace() == namespace);
        slices.flat_map(|(_, slice)| &slice.endpoints).map(|(id, _)| id)
    }

    /// The instances that are no pods and are on this node. All slices are looked at: nodes seldom change, and next to none
    /// of these name one.
    pub(super) fn others_on_node<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a InstanceId> {
        let endpoints = self.by_key.values().flat_map(|slice| &slice.endpoints);
        let there = endpoints.filter(move |(_, facts)| !facts.is_pod && facts.node.as_deref() == Some(node));
        there.map(|(id, _)| id)
    }

    /// Where an instance is listed.
    pub(super) fn of_instance(
        &self,
        id: &InstanceId,
    ) -> impl Iterator<Item = (&ObjectKey, &SliceFacts, &EndpointFacts)> {
        let keys = self.by_instance.get(id).into_iter().flatten();
        keys.filter_map(|key| Some((key, self.by_key.get(key)?)))
            .flat_map(move |(key, slice)| slice.of(id).iter().map(move |(_, facts)| (key, slice, facts)))
    }

    /// Sets a slice or takes it away, and returns the instances that this touches.
    pub(super) fn put(&mut self, key: &ObjectKey, after: Option<SliceFacts>) -> BTreeSet<InstanceId> {
        let before = self.by_key.remove(key);
        let touched = touched(before.as_ref(), after.as_ref());
        let is_in =
            |slice: &Option<SliceFacts>, id| slice.as_ref().is_some_and(|slice| !slice.of(id).is_empty());
        for id in &touched {
            match (is_in(&before, id), is_in(&after, id)) {
                (false, true) => self.by_instance.entry(id.clone()).or_default().push(key.clone()),
                (true, false) => self.leave(id, key),
                _ => {}
            }
        }
        if before.as_ref().map(|slice| &slice.service) != after.as_ref().map(|slice| &slice.service) {
            if let Some(before) = &before {
                self.leave_service(&before.service, key);
            }
            if let Some(after) = &after {
                self.by_service.entry(after.service.clone()).or_default().insert(key.clone());
            }
        }
        if let Some(after) = after {
            self.by_key.insert(key.clone(), after);
        }
        touched
    }

    fn leave(&mut self, id: &InstanceId, key: &ObjectKey) {
        let Some(keys) = self.by_instance.get_mut(id) else { return };
        keys.retain(|had| had != key);
        if keys.is_empty() {
            self.by_instance.remove(id);
        }
    }

    fn leave_service(&mut self, service: &ObjectKey, key: &ObjectKey) {
        let Some(keys) = self.by_service.get_mut(service) else { return };
        keys.remove(key);
        if keys.is_empty() {
            self.by_service.remove(service);
        }
    }
}

/// The instances for which two states of a slice differ.
fn touched(before: Option<&SliceFacts>, after: Option<&SliceFacts>) -> BTreeSet<InstanceId> {
    let all = |slice: Option<&SliceFacts>| -> Vec<InstanceId> {
        slice.into_iter().flat_map(|slice| &slice.endpoints).map(|(id, _)| id.clone()).collect()
    };
    match (before, after) {
        (Some(one), Some(other)) if one.service == other.service && one.ports == other.ports => {
            let differs = |id: &InstanceId| one.of(id) != other.of(id);
            all(before).into_iter().chain(all(after)).filter(differs).collect()
        }
        _ => all(before).into_iter().chain(all(after)).collect(),
    }
}
