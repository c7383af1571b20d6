//! What the adapter knows of its cluster, and what follows for the mesh. Pure: objects in, events out.
//!
//! The decision behind it: an instance is made anew only where something that it is made of has changed, so a change of a
//! slice costs the endpoints that differ in it, and one of a pod that pod. A slice says which instances a service has; the
//! pod's own object says who it is. A pod that a slice names and that is not there (yet, or any more) is no instance: it
//! would be one without identity or proxy. Errors remove nothing.

mod balancers;
mod changes;
mod pods;
mod slices;
mod sources;
mod told;
mod workload;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use weft_model::{InstanceId, Locality, RegistryEvent, ServiceKey};
use weft_registry::Problem;

use crate::convert::{Context, Declared};
use crate::error::KubernetesError;
use crate::object::{Object, ObjectKey, Source};
use crate::settings::NamespaceSettings;
use balancers::Balancers;
use changes::Named;
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
    balancers: Balancers,
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
            balancers: Balancers::default(),
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
            for missing in self.missing.values_mut() {
                missing.remove(&named);
            }
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
        problems.extend(self.shared_balancers());
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

    /// What was told, all of it.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn all(&self) -> RegistryEvent {
        self.told.all()
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
            let declaration = declaration.and_then(|declared| {
                let mut declaration = declared.declaration.clone()?;
                declaration.addresses.extend(self.own_balancers(declared));
                Some(declaration)
            });
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

    /// Whether the names in the settings let the namespace in.
    fn is_named(&self, namespace: &str) -> bool {
        let NamespaceSettings { include, exclude, .. } = &self.names;
        !exclude.contains(namespace) && (include.is_empty() || include.contains(namespace))
    }

    fn is_in_mesh(&self, namespace: &str) -> bool {
        self.selected.as_ref().is_none_or(|selected| selected.contains(namespace))
    }
}

/// The mesh's key of a service; `None` for a name that no API server would give.
fn service_key(key: &ObjectKey) -> Option<ServiceKey> {
    Some(ServiceKey::new(key.namespace().parse().ok()?, key.name().parse().ok()?))
}

#[cfg(test)]
mod tests;
