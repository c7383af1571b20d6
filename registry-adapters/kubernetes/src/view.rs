//! What the adapter knows of its cluster, and what follows for the mesh. Pure: objects in, events out.
//!
//! The decision behind it: an instance is made anew only where something that it is made of has changed, so a change of a
//! slice costs the endpoints that differ in it, and one of a pod that pod. A slice says which instances a service has; the
//! pod's own object says who it is. A pod that a slice names and that is not there (yet, or any more) is no instance: it
//! would be one without identity or proxy. Errors remove nothing.

mod pods;
mod slices;
mod sources;
mod told;
mod workload;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use weft_model::{InstanceId, Locality, RegistryEvent, ServiceKey};
use weft_registry::Problem;

use crate::convert::{self, Context, Declared, object_name};
use crate::error::KubernetesError;
use crate::object::{self, Kind, Object, ObjectKey, Source};
use crate::settings::NamespaceSettings;
use pods::Pods;
use slices::Slices;
use sources::Sources;
use told::Told;

/// The state of one cluster.
#[derive(Debug)]
pub(crate) struct View {
    context: Context,
    names: NamespaceSettings,
    sources: Sources,
    /// The namespaces that the selector selects, where there is one.
    selected: Option<HashSet<Box<str>>>,
    services: HashMap<ObjectKey, Declared>,
    slices: Slices,
    pods: Pods,
    nodes: HashMap<Box<str>, Locality>,
    /// What is wrong, by object.
    problems: BTreeMap<String, Vec<Problem>>,
    told: Told,
    touched: Touched,
    /// What the last list of a source lacked. It stays until all sources were read again: one list alone may be of another
    /// time than the others, and instances would lose their services and not be missed.
    missing: HashMap<Source, HashSet<Named>>,
    /// Whether everything was read in the present round, and ever.
    round_done: bool,
    synced: bool,
    /// Instances that were made anew.
    #[cfg(test)]
    made: usize,
}

/// What may mean something else than was told.
#[derive(Debug, Default)]
struct Touched {
    services: BTreeSet<ObjectKey>,
    instances: BTreeSet<InstanceId>,
}

impl View {
    pub(crate) fn new(context: Context, names: NamespaceSettings, sources: Vec<Source>) -> Self {
        Self {
            context,
            selected: names.selector.is_some().then(HashSet::new),
            names,
            sources: Sources::new(sources),
            services: HashMap::new(),
            slices: Slices::default(),
            pods: Pods::default(),
            nodes: HashMap::new(),
            problems: BTreeMap::new(),
            told: Told::default(),
            touched: Touched::default(),
            missing: HashMap::new(),
            round_done: false,
            synced: false,
            #[cfg(test)]
            made: 0,
        }
    }

    /// Takes a whole list. `current`: it was read in the present round.
    pub(crate) fn on_listed(&mut self, source: &Source, objects: Vec<Object>, current: bool) {
        let pods_were_read = self.sources.pods_are_read();
        self.sources.on_listed(source, current);
        let mut missing = self.keys_of(source);
        for object in objects {
            missing.remove(&Named::of(&object));
            self.on_changed(object);
        }
        match missing.is_empty() {
            true => drop(self.missing.remove(source)),
            false => drop(self.missing.insert(source.clone(), missing)),
        }
        self.look_at_all_if(pods_were_read != self.sources.pods_are_read());
    }

    /// Whether a list lacks something, and all sources should be read again to make sure of it.
    pub(crate) fn wants_all_read(&self) -> bool {
        self.round_done && !self.missing.is_empty()
    }

    /// Takes an object as it is now.
    pub(crate) fn on_changed(&mut self, object: Object) {
        if !self.missing.is_empty() {
            let named = Named::of(&object);
            self.missing.values_mut().for_each(|missing| drop(missing.remove(&named)));
        }
        match object {
            Object::Service(service) => self.put_service(service),
            Object::Slice(slice) => self.put_slice(slice),
            Object::Pod(pod) => self.put_pod(pod),
            Object::Node(node) => {
                let known = Some(node.locality).filter(|locality| !locality.is_unknown());
                self.put_node(node.name, known);
            }
            Object::Namespace(name) => self.select(name, true),
        }
    }

    /// Takes an object away.
    pub(crate) fn on_deleted(&mut self, object: &Object) {
        self.forget(&Named::of(object));
    }

    /// A source answers.
    pub(crate) fn on_well(&mut self, source: &Source) {
        let pods_were_read = self.sources.pods_are_read();
        self.sources.on_well(source);
        self.look_at_all_if(pods_were_read != self.sources.pods_are_read());
    }

    /// A source fails. What is known of it stays.
    pub(crate) fn on_failed(&mut self, source: &Source, error: KubernetesError) {
        let pods_were_read = self.sources.pods_are_read();
        self.sources.on_failed(source, error);
        self.look_at_all_if(pods_were_read != self.sources.pods_are_read());
    }

    /// Everything is to be read anew.
    pub(crate) fn start_over(&mut self) {
        self.round_done = false;
        self.sources.start_over();
    }

    /// What is wrong with the source as a whole.
    pub(crate) fn source_error(&self) -> Option<&KubernetesError> {
        self.sources.error()
    }

    /// What is wrong with single objects, and which kinds the mesh has to do without.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = self.problems.values().flatten().cloned().collect();
        problems.extend(self.sources.problems());
        problems.sort();
        problems.dedup();
        problems
    }

    /// What the changes since the last time mean to the mesh, at this time. Nothing, until everything was read once.
    pub(crate) fn settle(&mut self, now_unix_ms: u64) -> Vec<RegistryEvent> {
        if !self.round_done && self.sources.are_complete() {
            (self.round_done, self.synced) = (true, true);
            for named in std::mem::take(&mut self.missing).into_values().flatten() {
                self.forget(&named);
            }
            self.touched = Touched::default();
            return vec![self.everything(now_unix_ms)];
        }
        let touched = std::mem::take(&mut self.touched);
        if !self.synced {
            return Vec::new();
        }
        self.make(&touched.services, &touched.instances, now_unix_ms).events()
    }

    /// Makes everything anew.
    fn everything(&mut self, now_unix_ms: u64) -> RegistryEvent {
        let services = self.services.keys().cloned().chain(self.told.object_keys()).collect();
        let instances = self.all_instances().into_iter().chain(self.told.ids()).collect();
        self.make(&services, &instances, now_unix_ms);
        self.told.all()
    }

    /// Makes these anew and notes what is told of them from now on.
    fn make(
        &mut self,
        services: &BTreeSet<ObjectKey>,
        instances: &BTreeSet<InstanceId>,
        now_unix_ms: u64,
    ) -> told::Change {
        let mut change = told::Change::default();
        for key in services {
            let Some(named) = service_key(key) else { continue };
            let declaration = self.services.get(key).filter(|_| self.is_in_mesh(key.namespace()));
            let declaration = declaration.and_then(|declared| declared.declaration.clone());
            self.told.put_service(named, declaration, &mut change);
        }
        #[cfg(test)]
        {
            self.made += instances.len();
        }
        for id in instances {
            let workload = self.workload(id, now_unix_ms);
            self.told.put_workload(id, workload, &mut change);
        }
        change
    }

    fn all_instances(&self) -> BTreeSet<InstanceId> {
        self.slices.instances().chain(self.pods.ids()).cloned().collect()
    }

    fn look_at_all_if(&mut self, needed: bool) {
        if needed && self.synced {
            self.touched.instances.extend(self.slices.instances().chain(self.pods.ids()).cloned());
        }
    }

    fn put_service(&mut self, service: object::Service) {
        let key = service.key.clone();
        if !self.is_named(key.namespace()) {
            return;
        }
        let before = self.services.get(&key);
        let (after, problems) = convert::service(&self.context, &service, before);
        let is_news = before != after.as_ref();
        self.set_problems("service", &key, problems);
        if !is_news {
            return;
        }
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

    fn put_slice(&mut self, slice: object::Slice) {
        let key = slice.key.clone();
        if !self.is_named(key.namespace()) {
            return;
        }
        let (after, problems) = convert::slice(&self.context, &slice);
        self.set_problems("endpointslice", &key, problems);
        self.set_slice(&key, after);
    }

    fn set_slice(&mut self, key: &ObjectKey, after: Option<convert::SliceFacts>) {
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

    fn put_pod(&mut self, pod: object::Pod) {
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

    fn put_node(&mut self, name: Box<str>, locality: Option<Locality>) {
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
    fn select(&mut self, name: Box<str>, matches: bool) {
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

    fn forget(&mut self, named: &Named) {
        match named {
            Named::Service(key) => {
                self.set_problems("service", key, Vec::new());
                if self.services.remove(key).is_some() {
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
    fn keys_of(&self, source: &Source) -> HashSet<Named> {
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

    /// Whether the names in the settings let the namespace in.
    fn is_named(&self, namespace: &str) -> bool {
        let NamespaceSettings { include, exclude, .. } = &self.names;
        !exclude.contains(namespace) && (include.is_empty() || include.contains(namespace))
    }

    fn is_in_mesh(&self, namespace: &str) -> bool {
        self.selected.as_ref().is_none_or(|selected| selected.contains(namespace))
    }
}

/// An object by its name; a pod by its uid, since names are used again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Named {
    Service(ObjectKey),
    Slice(ObjectKey),
    Pod(InstanceId, ObjectKey),
    Node(Box<str>),
    Namespace(Box<str>),
    /// A pod whose uid can be none: it was never taken.
    Nothing,
}

impl Named {
    fn of(object: &Object) -> Self {
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

/// The mesh's key of a service; `None` for a name that no API server would give.
fn service_key(key: &ObjectKey) -> Option<ServiceKey> {
    Some(ServiceKey::new(key.namespace().parse().ok()?, key.name().parse().ok()?))
}

const SERVICE_LABEL: &str = "metadata.labels[kubernetes.io/service-name]";

#[cfg(test)]
mod tests;
