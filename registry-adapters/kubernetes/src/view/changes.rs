//! Single objects as they come and go: what is held of them, and what they touch.

use std::collections::HashSet;

use weft_model::{InstanceId, Locality};
use weft_registry::Problem;

use super::View;
use crate::convert::{self, SliceFacts};
use crate::object::{self, Kind, Object, ObjectKey, Source};
use crate::subject::object_name;

impl View {
    pub(super) fn put_service(&mut self, service: object::Service) {
        let key = service.key.clone();
        if !self.is_named(key.namespace()) {
            return;
        }
        let before = self.services.get(&key);
        let (after, problems) = convert::service(&self.context, &service, before);
        let is_news = before != after.as_ref();
        let others = self.balancers.change(&key, before, after.as_ref());
        self.set_problems("service", &key, problems);
        if !is_news {
            return;
        }
        self.touched.services.extend(others);
        match after {
            Some(after) => drop(self.services.insert(key.clone(), after)),
            None => drop(self.services.remove(&key)),
        }
        self.touch_service(&key);
    }

    fn touch_service(&mut self, key: &ObjectKey) {
        self.touched.services.insert(key.clone());
        self.touched.instances.extend(self.slices.of_service(key).cloned());
        self.look_for_orphans(key);
    }

    pub(super) fn put_slice(&mut self, slice: object::Slice) {
        let key = slice.key.clone();
        if !self.is_named(key.namespace()) {
            return;
        }
        let (after, problems) = convert::slice(&self.context, &slice);
        self.set_problems("endpointslice", &key, problems);
        self.set_slice(&key, after);
    }

    fn set_slice(&mut self, key: &ObjectKey, after: Option<SliceFacts>) {
        let services: Vec<ObjectKey> =
            self.slices.get(key).into_iter().chain(&after).map(|slice| slice.service.clone()).collect();
        self.touched.instances.extend(self.slices.put(key, after));
        for service in services {
            self.look_for_orphans(&service);
        }
    }

    /// Slices that somebody wrote by hand for a service that is not there. Kubernetes' own are about to go.
    fn look_for_orphans(&mut self, service: &ObjectKey) {
        let exists = self.services.contains_key(service) || service.as_str() == convert::OWN_API;
        if exists && self.problems.is_empty() {
            return;
        }
        for (key, slice) in self.slices.slices_of(service) {
            let object = object_name("endpointslice", key);
            let problems = self.problems.entry(object.clone()).or_default();
            problems.retain(|problem| problem.field.as_deref() != Some(SERVICE_LABEL));
            if !exists && !slice.is_kept {
                let message = format!("there is no service {service}: it is not used");
                problems.push(Problem::warning(object.clone(), message).in_field(SERVICE_LABEL));
            }
            if problems.is_empty() {
                self.problems.remove(&object);
            }
        }
    }

    pub(super) fn put_pod(&mut self, pod: object::Pod) {
        if !self.is_named(pod.key.namespace()) {
            return;
        }
        let key = pod.key.clone();
        let id = format!("pod/{}", pod.uid).parse().ok();
        let before = id.as_ref().and_then(|id| self.pods.get(id));
        let (after, problems) = convert::pod(&self.context, &pod, before);
        // A finished pod harms nobody.
        self.set_problems("pod", &key, if pod.finished { Vec::new() } else { problems });
        if let Some((id, facts)) = after
            && self.pods.put(&id, Some(facts))
        {
            self.touched.instances.insert(id);
        }
    }

    pub(super) fn put_node(&mut self, name: Box<str>, locality: Option<Locality>) {
        let after = locality.clone();
        let before = match locality {
            Some(locality) => self.nodes.insert(name.clone(), locality),
            None => self.nodes.remove(&name),
        };
        if before != after {
            self.touched.instances.extend(self.pods.on_node(&name).cloned());
            self.touched.instances.extend(self.slices.others_on_node(&name).cloned());
        }
    }

    /// A namespace's labels match, or no longer do.
    pub(super) fn select(&mut self, name: Box<str>, matches: bool) {
        let Some(selected) = &mut self.selected else { return };
        let changed = if matches { selected.insert(name.clone()) } else { selected.remove(&name) };
        if !changed {
            return;
        }
        let is_there = |key: &&ObjectKey| key.namespace() == name.as_ref();
        self.touched.services.extend(self.services.keys().filter(is_there).cloned());
        self.touched.instances.extend(self.slices.in_namespace(&name).cloned());
        self.touched.instances.extend(self.pods.in_namespace(&name).cloned());
    }

    pub(super) fn forget(&mut self, named: &Named) {
        match named {
            Named::Service(key) => {
                self.set_problems("service", key, Vec::new());
                if let Some(before) = self.services.remove(key) {
                    let others = self.balancers.change(key, Some(&before), None);
                    self.touched.services.extend(others);
                    self.touch_service(key);
                }
            }
            Named::Slice(key) => {
                self.set_slice(key, None);
                self.set_problems("endpointslice", key, Vec::new());
            }
            Named::Pod(id, key) => {
                if self.pods.put(id, None) {
                    self.touched.instances.insert(id.clone());
                    self.set_problems("pod", key, Vec::new());
                }
            }
            Named::Node(name) => self.put_node(name.clone(), None),
            Named::Namespace(name) => self.select(name.clone(), false),
            Named::Nothing => {}
        }
    }

    /// What is held of a source.
    pub(super) fn keys_of(&self, source: &Source) -> HashSet<Named> {
        let within = |key: &ObjectKey| source.namespace.as_deref().is_none_or(|name| name == key.namespace());
        match source.kind {
            Kind::Services => {
                self.services.keys().filter(|key| within(key)).cloned().map(Named::Service).collect()
            }
            Kind::Slices => self.slices.keys().filter(|key| within(key)).cloned().map(Named::Slice).collect(),
            Kind::Pods => self
                .pods
                .named()
                .filter(|(_, key)| within(key))
                .map(|(id, key)| Named::Pod(id, key))
                .collect(),
            Kind::Nodes => self.nodes.keys().cloned().map(Named::Node).collect(),
            Kind::Namespaces => self.selected.iter().flatten().cloned().map(Named::Namespace).collect(),
        }
    }

    fn set_problems(&mut self, kind: &str, key: &ObjectKey, problems: Vec<Problem>) {
        match problems.is_empty() {
            // Most objects never had one: no text is made for them.
            true if self.problems.is_empty() => {}
            true => drop(self.problems.remove(&object_name(kind, key))),
            false => drop(self.problems.insert(object_name(kind, key), problems)),
        }
    }
}

/// An object by its name; a pod by its uid, since names are used again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Named {
    Service(ObjectKey),
    Slice(ObjectKey),
    Pod(InstanceId, ObjectKey),
    Node(Box<str>),
    Namespace(Box<str>),
    /// A pod whose uid can be none: it was never taken.
    Nothing,
}

impl Named {
    pub(super) fn of(object: &Object) -> Self {
        match object {
            Object::Service(service) => Self::Service(service.key.clone()),
            Object::Slice(slice) => Self::Slice(slice.key.clone()),
            Object::Pod(pod) => match format!("pod/{}", pod.uid).parse() {
                Ok(id) => Self::Pod(id, pod.key.clone()),
                Err(_) => Self::Nothing,
            },
            Object::Node(node) => Self::Node(node.name.clone()),
            Object::Namespace(name) => Self::Namespace(name.clone()),
        }
    }
}

const SERVICE_LABEL: &str = "metadata.labels[kubernetes.io/service-name]";
