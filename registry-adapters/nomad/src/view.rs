//! What one region looks like, and what the mesh is told of it. Pure: answers in, events out.
//!
//! A workload is made of a registration, its allocation, the version of the job that this runs, its node and its checks; each
//! comes by itself, so whatever changes, the services that it touches are made anew. A registration whose allocation or job is
//! not known yet waits; one that was in the mesh before keeps its last good state.

mod told;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use weft_model::{Entry, RegistryEvent, Scope, Workload};
use weft_registry::{Instances, Problem, RegistryErrorKind};

use crate::answer::{Allocation, CheckResult, Job, Node, Registration};
use crate::convert::{self, Context, Known};
use crate::error::NomadError;

/// A service in Nomad.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Target {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Target {
    pub(crate) fn describe(&self) -> String {
        match self.namespace.as_str() {
            "default" => format!("service {}", self.name),
            namespace => format!("service {namespace}/{}", self.name),
        }
    }
}

/// A version of a job.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct JobVersion {
    namespace: String,
    job: String,
    version: u64,
}

impl JobVersion {
    fn of(allocation: &Allocation) -> Self {
        let (namespace, job) = (allocation.namespace.clone(), allocation.job.clone());
        Self { namespace, job, version: allocation.job_version }
    }
}

/// The lists that all depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum List {
    Services,
    Allocations,
    Nodes,
}

/// What a list of services changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Listed {
    /// To be read from now on.
    pub(crate) added: Vec<Target>,
    /// No longer listed, while others of their namespace are: gone.
    pub(crate) gone: Vec<Target>,
    /// Namespaces of which nothing is listed any more: emptied, or hidden.
    pub(crate) doubtful: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Reading {
    read: bool,
    failing: Option<NomadError>,
}

#[derive(Debug, Default)]
struct Service {
    reading: Reading,
    registrations: Vec<Registration>,
    problems: Vec<Problem>,
    /// Some of its registrations wait for their allocation or job.
    waiting: bool,
}

/// The state of one region.
#[derive(Debug)]
pub(crate) struct View {
    context: Context,
    asked: Vec<String>,
    lists: BTreeMap<List, Reading>,
    services: BTreeMap<Target, Service>,
    allocations: HashMap<String, Allocation>,
    jobs: HashMap<JobVersion, Job>,
    nodes: HashMap<String, Node>,
    checks: HashMap<String, Vec<CheckResult>>,
    /// The services of each allocation.
    of_allocation: HashMap<String, BTreeSet<Target>>,
    hidden: BTreeMap<String, NomadError>,
    /// The namespaces of which the last list showed services.
    listed: BTreeSet<String>,
    instances: Instances<Target>,
}

impl View {
    /// `asked`: the namespaces by whose names is asked whether there is really nothing.
    pub(crate) fn new(context: Context, asked: Vec<String>) -> Self {
        let lists = [List::Services, List::Allocations, List::Nodes].map(|list| (list, Reading::default()));
        Self {
            context,
            asked,
            lists: lists.into_iter().collect(),
            services: BTreeMap::new(),
            allocations: HashMap::new(),
            jobs: HashMap::new(),
            nodes: HashMap::new(),
            checks: HashMap::new(),
            of_allocation: HashMap::new(),
            hidden: BTreeMap::new(),
            listed: BTreeSet::new(),
            instances: Instances::default(),
        }
    }

    pub(crate) fn follows(&self, target: &Target) -> bool {
        self.services.contains_key(target)
    }

    pub(crate) fn targets(&self) -> impl Iterator<Item = &Target> {
        self.services.keys()
    }

    /// Takes the list of services.
    pub(crate) fn on_services(&mut self, listed: BTreeSet<Target>) -> Listed {
        self.read(List::Services);
        let namespaces: BTreeSet<&str> = listed.iter().map(|target| target.namespace.as_str()).collect();
        self.hidden.retain(|namespace, _| !namespaces.contains(namespace.as_str()));
        self.listed = namespaces.iter().map(|namespace| (*namespace).to_owned()).collect();
        let (mut gone, mut doubtful) = (Vec::new(), BTreeSet::new());
        for target in self.services.keys().filter(|target| !listed.contains(target)) {
            match namespaces.contains(target.namespace.as_str()) {
                true => gone.push(target.clone()),
                false => _ = doubtful.insert(target.namespace.clone()),
            }
        }
        if listed.is_empty() && self.services.is_empty() {
            // Nothing there, or nothing that the token sees.
            doubtful.extend(self.asked.iter().cloned());
        }
        let added: Vec<Target> =
            listed.into_iter().filter(|target| !self.services.contains_key(target)).collect();
        self.services.extend(added.iter().map(|target| (target.clone(), Service::default())));
        Listed { added, gone, doubtful }
    }

    /// What asking for one namespace by its name says of a namespace of which nothing was listed: that it is empty, or why it
    /// can't be known. Its services, where they are gone.
    pub(crate) fn on_doubtful(&mut self, namespace: &str, empty: Result<bool, NomadError>) -> Vec<Target> {
        // The list may have come back while this was asked.
        if self.listed.contains(namespace) {
            return Vec::new();
        }
        let gone = match empty {
            Ok(empty) => empty,
            // A namespace that is deleted has nothing.
            Err(error) if error.kind == RegistryErrorKind::NotFound => true,
            Err(error) => {
                self.hidden.insert(namespace.to_owned(), error);
                return Vec::new();
            }
        };
        self.hidden.remove(namespace);
        let of = self.services.keys().filter(|target| gone && target.namespace == namespace);
        of.cloned().collect()
    }

    /// Whether the services of a namespace can't be known.
    pub(crate) fn hides(&self, namespace: &str) -> bool {
        self.hidden.contains_key(namespace)
    }

    /// Whether the last list showed services of a namespace.
    pub(crate) fn lists(&self, namespace: &str) -> bool {
        self.listed.contains(namespace)
    }

    pub(crate) fn on_list_failed(&mut self, list: List, error: NomadError) {
        self.lists.entry(list).or_default().failing = Some(error);
    }

    fn read(&mut self, list: List) {
        self.lists.insert(list, Reading { read: true, failing: None });
    }

    /// Takes a service's instances. `current`: the answer counts as read in the present round.
    pub(crate) fn on_service(
        &mut self,
        target: &Target,
        registrations: Vec<Registration>,
        current: bool,
        now_unix_ms: u64,
    ) -> Vec<RegistryEvent> {
        let Some(service) = self.services.get_mut(target) else { return Vec::new() };
        let of = |registrations: &[Registration]| -> BTreeSet<String> {
            registrations.iter().map(|one| one.alloc.clone()).collect()
        };
        let (before, after) = (of(&service.registrations), of(&registrations));
        service.reading = Reading { read: service.reading.read || current, failing: None };
        service.registrations = registrations;
        for alloc in before.difference(&after) {
            if let Some(targets) = self.of_allocation.get_mut(alloc) {
                targets.remove(target);
            }
        }
        for alloc in after {
            self.of_allocation.entry(alloc).or_default().insert(target.clone());
        }
        self.of_allocation.retain(|_, targets| !targets.is_empty());
        self.make(&BTreeSet::from([target.clone()]), now_unix_ms)
    }

    pub(crate) fn on_service_failed(&mut self, target: &Target, error: NomadError) {
        if let Some(service) = self.services.get_mut(target) {
            service.reading.failing = Some(error);
        }
    }

    /// These services are gone: one event for all of them.
    pub(crate) fn on_gone(&mut self, targets: &[Target]) -> Option<RegistryEvent> {
        for target in targets {
            self.services.remove(target);
        }
        self.of_allocation.retain(|_, of| {
            of.retain(|target| !targets.contains(target));
            !of.is_empty()
        });
        self.instances.remove(targets)
    }

    /// Takes the list of allocations.
    pub(crate) fn on_allocations(&mut self, all: Vec<Allocation>, now_unix_ms: u64) -> Vec<RegistryEvent> {
        self.read(List::Allocations);
        let mut fresh: HashMap<String, Allocation> =
            all.into_iter().map(|allocation| (allocation.id.clone(), allocation)).collect();
        let mut touched = BTreeSet::new();
        for (id, targets) in &self.of_allocation {
            if fresh.get(id) != self.allocations.get(id) {
                touched.extend(targets.iter().cloned());
            }
        }
        // One that is not listed any more, while its services are: what was known of it stays.
        for id in self.of_allocation.keys() {
            if let (None, Some(known)) = (fresh.get(id), self.allocations.get(id)) {
                fresh.insert(id.clone(), known.clone());
            }
        }
        self.allocations = fresh;
        let versions: BTreeSet<JobVersion> = self.allocations.values().map(JobVersion::of).collect();
        self.jobs.retain(|version, _| versions.contains(version));
        let allocations = &self.allocations;
        self.checks.retain(|id, _| allocations.contains_key(id));
        self.make(&touched, now_unix_ms)
    }

    /// Takes the list of nodes.
    pub(crate) fn on_nodes(&mut self, nodes: Vec<Node>, now_unix_ms: u64) -> Vec<RegistryEvent> {
        self.read(List::Nodes);
        let fresh: HashMap<String, Node> = nodes.into_iter().map(|node| (node.id.clone(), node)).collect();
        let changed = |id: &str| fresh.get(id) != self.nodes.get(id);
        let touched = self
            .of_allocation
            .iter()
            .filter(|(id, _)| self.allocations.get(*id).is_some_and(|allocation| changed(&allocation.node)));
        let touched = touched.flat_map(|(_, targets)| targets.iter().cloned()).collect();
        self.nodes = fresh;
        self.make(&touched, now_unix_ms)
    }

    /// The jobs that registrations wait for, each with one allocation that runs it.
    pub(crate) fn wanted_jobs(&self) -> BTreeMap<JobVersion, String> {
        let running = self.of_allocation.keys().filter_map(|id| self.allocations.get(id));
        let unknown = running.map(|one| (JobVersion::of(one), one.id.clone()));
        unknown.filter(|(version, _)| !self.jobs.contains_key(version)).collect()
    }

    /// Takes a version of a job.
    pub(crate) fn on_job(&mut self, version: JobVersion, job: Job, now_unix_ms: u64) -> Vec<RegistryEvent> {
        let touched = self.of_allocation.iter().filter(|(id, _)| {
            self.allocations.get(*id).is_some_and(|allocation| JobVersion::of(allocation) == version)
        });
        let touched = touched.flat_map(|(_, targets)| targets.iter().cloned()).collect();
        self.jobs.insert(version, job);
        self.make(&touched, now_unix_ms)
    }

    /// The allocations whose checks have to be asked for: those that run and have some.
    pub(crate) fn checked(&self) -> Vec<String> {
        let has_checks = |id: &String, targets: &BTreeSet<Target>| {
            let Some(allocation) = self.allocations.get(id) else { return false };
            let Some(job) = self.jobs.get(&JobVersion::of(allocation)) else { return false };
            let group = job.task_groups.iter().find(|group| group.name == allocation.task_group);
            allocation.client_status == "running"
                && group.is_some_and(|group| targets.iter().any(|target| group.checks(&target.name)))
        };
        let of = self.of_allocation.iter().filter(|(id, targets)| has_checks(id, targets));
        of.map(|(id, _)| id.clone()).collect()
    }

    /// Takes what an allocation's node says of its checks.
    pub(crate) fn on_checks(
        &mut self,
        id: &str,
        results: Vec<CheckResult>,
        now_unix_ms: u64,
    ) -> Vec<RegistryEvent> {
        if self.checks.get(id) == Some(&results) {
            return Vec::new();
        }
        self.checks.insert(id.to_owned(), results);
        let touched = self.of_allocation.get(id).cloned().unwrap_or_default();
        self.make(&touched, now_unix_ms)
    }

    /// Makes the workloads of these services anew.
    fn make(&mut self, targets: &BTreeSet<Target>, now_unix_ms: u64) -> Vec<RegistryEvent> {
        let mut events = Vec::new();
        for target in targets {
            let Some(service) = self.services.get(target) else { continue };
            let (mut workloads, mut problems, mut waiting) = (Vec::new(), Vec::new(), false);
            for registration in &service.registrations {
                let before = self.instances.of(target).iter().find(|workload| is_of(workload, registration));
                let since =
                    before.and_then(|workload| workload.provenance.first()).map(|from| from.since_unix_ms);
                let made = match self.known(registration) {
                    Some(known) => {
                        convert::workload(&self.context, known, since.unwrap_or(now_unix_ms), &mut problems)
                    }
                    None => {
                        waiting = true;
                        None
                    }
                };
                workloads.extend(made.or_else(|| before.cloned()));
            }
            workloads.sort_by(|a, b| a.id.cmp(&b.id));
            workloads.dedup_by(|a, b| a.id == b.id);
            events.extend(self.instances.replace(target, workloads));
            if let Some(service) = self.services.get_mut(target) {
                (service.problems, service.waiting) = (problems, waiting);
            }
        }
        events
    }

    fn known<'a>(&'a self, registration: &'a Registration) -> Option<Known<'a>> {
        let allocation = self.allocations.get(&registration.alloc)?;
        Some(Known {
            registration,
            allocation,
            job: self.jobs.get(&JobVersion::of(allocation))?,
            node: self.nodes.get(&allocation.node),
            checks: self.checks.get(&allocation.id).map(Vec::as_slice),
        })
    }

    /// Everything is to be read anew.
    pub(crate) fn start_over(&mut self) {
        self.lists.values_mut().for_each(|list| list.read = false);
        self.services.values_mut().for_each(|service| service.reading.read = false);
    }

    /// Whether every list and every listed service was read, and all that these need.
    pub(crate) fn is_complete(&self) -> bool {
        let lists = [List::Services, List::Allocations];
        lists.iter().all(|list| self.lists.get(list).is_some_and(|reading| reading.read))
            && self.lists.get(&List::Nodes).is_some_and(|nodes| nodes.read || nodes.failing.is_some())
            && self.hidden.is_empty()
            && self.services.values().all(|service| service.reading.read && !service.waiting)
    }

    /// All there is.
    pub(crate) fn all(&self) -> RegistryEvent {
        RegistryEvent::Reset { scope: Scope::All, entries: self.instances.all().map(Entry::from).collect() }
    }

    /// All there is of the services that were read, where others were not.
    pub(crate) fn all_read(&self) -> Option<RegistryEvent> {
        self.instances.everything_scoped()
    }
}

/// Whether the workload is that of the registration: its id names allocation and port.
fn is_of(workload: &Workload, registration: &Registration) -> bool {
    let number = registration.port.to_string();
    weft_registry::nomad_instance(&registration.id, &registration.service_name, &number)
        .is_some_and(|id| id == workload.id.as_str())
}

#[cfg(test)]
mod tests;
