//! What the adapter knows of its datacenter, and what follows for the mesh. Pure: answers in, events out.
//!
//! The decision behind it: a service's instances go only when that service's own answer lacks them, or when a list of
//! services lacks the service and the token is known to see it. Whatever else happens becomes an error or a problem.
//! Several Consul services may hold one instance (Nomad registers a port twice) or name one mesh service (`weft-service`),
//! so a scoped `Reset` speaks for all mesh services that a changed answer touches.

use std::collections::{BTreeMap, BTreeSet};

use weft_model::{Entry, RegistryEvent, Scope, ServiceName, Workload};
use weft_registry::{Instances, Problem, RegistryErrorKind};

use crate::convert::Converted;
use crate::error::ConsulError;

/// A namespace of Consul Enterprise, or the token's own.
pub(crate) type Namespace = Option<String>;

/// One service in Consul, as one query follows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Target {
    pub(crate) namespace: Namespace,
    pub(crate) name: ServiceName,
}

impl Target {
    fn describe(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("service {namespace}/{}", self.name),
            None => format!("service {}", self.name),
        }
    }
}

/// How much of the list of services a token sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    /// All of it: what is not listed is gone.
    Full,
    /// A part, and the server says for each service whether something is hidden.
    Partial,
    /// Perhaps a part; this server does not say. Nothing that vanishes may be believed.
    Unsure,
    /// Nothing.
    Nothing,
}

impl Sight {
    /// Judges a list. `told`: this server would say that it hides something.
    pub(crate) fn of_list(names: &BTreeSet<&str>, filtered: bool, namespace: &Namespace, told: bool) -> Self {
        // Every datacenter has the service `consul` in its default namespace; who does not see it does not see all.
        match (names.is_empty(), filtered) {
            (true, true) => Self::Nothing,
            (false, true) => Self::Partial,
            (_, false) if names.contains("consul") => Self::Full,
            (true, false) if namespace.is_some() && told => Self::Full,
            (true, false) => Self::Nothing,
            (false, false) if told => Self::Full,
            (false, false) => Self::Unsure,
        }
    }
}

/// What a list of services changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Listed {
    /// To be followed from now on.
    pub(crate) added: Vec<Target>,
    /// No longer listed, and gone.
    pub(crate) gone: Vec<Target>,
    /// No longer listed; to be asked for one by one.
    pub(crate) doubtful: Vec<Target>,
}

/// The state of one datacenter.
#[derive(Debug, Default)]
pub(crate) struct View {
    lists: BTreeMap<Namespace, List>,
    targets: BTreeMap<Target, Followed>,
    instances: Instances<Target>,
}

#[derive(Debug, Default)]
struct List {
    read: bool,
    failing: Option<ConsulError>,
    problems: Vec<Problem>,
}

#[derive(Debug, Default)]
struct Followed {
    read: bool,
    failing: Option<ConsulError>,
    problems: Vec<Problem>,
}

impl View {
    pub(crate) fn new(namespaces: impl IntoIterator<Item = Namespace>) -> Self {
        let lists = namespaces.into_iter().map(|namespace| (namespace, List::default())).collect();
        Self { lists, ..Self::default() }
    }

    /// How many services are followed.
    pub(crate) fn followed(&self) -> usize {
        self.targets.len()
    }

    pub(crate) fn follows(&self, target: &Target) -> bool {
        self.targets.contains_key(target)
    }

    /// What the last answers made of a service.
    pub(crate) fn last(&self, target: &Target) -> &[Workload] {
        self.instances.of(target)
    }

    /// Takes a list of services.
    pub(crate) fn on_list(&mut self, namespace: &Namespace, names: &BTreeSet<&str>, sight: Sight) -> Listed {
        let list = self.lists.entry(namespace.clone()).or_default();
        if sight == Sight::Nothing {
            let reason = "it is empty, without even Consul's own service: the token may not read services";
            list.failing =
                Some(ConsulError::new(RegistryErrorKind::PermissionDenied, "the list of services", reason));
            return Listed::default();
        }
        (list.read, list.failing, list.problems) = (true, None, Vec::new());
        let mut listed = BTreeSet::new();
        for name in names.iter().filter(|name| **name != "consul") {
            match name.parse() {
                Ok(name) => drop(listed.insert(Target { namespace: namespace.clone(), name })),
                Err(error) => list.problems.push(left_out(name, &error)),
            }
        }
        if sight == Sight::Unsure {
            list.problems.push(unsure());
        }
        let in_namespace = self.targets.keys().filter(|target| &target.namespace == namespace);
        let missing: Vec<Target> = in_namespace.filter(|target| !listed.contains(*target)).cloned().collect();
        let added: Vec<Target> =
            listed.into_iter().filter(|target| !self.targets.contains_key(target)).collect();
        self.targets.extend(added.iter().map(|target| (target.clone(), Followed::default())));
        match sight {
            Sight::Full => Listed { added, gone: missing, doubtful: Vec::new() },
            Sight::Partial => Listed { added, gone: Vec::new(), doubtful: missing },
            Sight::Unsure | Sight::Nothing => Listed { added, ..Listed::default() },
        }
    }

    pub(crate) fn on_list_failed(&mut self, namespace: &Namespace, error: ConsulError) {
        self.lists.entry(namespace.clone()).or_default().failing = Some(error);
    }

    /// Takes a service's instances. `current`: the answer counts as read in the present round.
    pub(crate) fn on_instances(
        &mut self,
        target: &Target,
        converted: Converted,
        current: bool,
    ) -> Option<RegistryEvent> {
        let followed = self.targets.get_mut(target)?;
        followed.read |= current;
        (followed.failing, followed.problems) = (None, converted.problems);
        self.instances.replace(target, converted.workloads)
    }

    /// Takes instances that are not all there are: the token may not see the others, so nothing goes.
    pub(crate) fn on_some_instances(
        &mut self,
        target: &Target,
        mut converted: Converted,
        current: bool,
    ) -> Option<RegistryEvent> {
        for kept in self.instances.of(target) {
            if !converted.workloads.iter().any(|workload| workload.id == kept.id) {
                converted.workloads.push(kept.clone());
            }
        }
        converted.workloads.sort_by(|a, b| a.id.cmp(&b.id));
        let reason = "the token does not see all nodes; instances that are not seen any more are kept";
        converted.problems.push(Problem::warning(target.describe(), reason));
        self.on_instances(target, converted, current)
    }

    pub(crate) fn on_instances_failed(&mut self, target: &Target, error: ConsulError) {
        if let Some(followed) = self.targets.get_mut(target) {
            followed.failing = Some(error);
        }
    }

    /// A service that is listed and has no instances: its nodes are hidden, since only instances make a service.
    pub(crate) fn on_hidden(&mut self, target: &Target) {
        let reason = "it is listed, and its instances are not: the token may not read its nodes";
        let error = ConsulError::new(RegistryErrorKind::PermissionDenied, target.describe(), reason);
        self.on_instances_failed(target, error);
    }

    /// These services are gone: one event for all of them.
    pub(crate) fn on_gone(&mut self, targets: &[Target]) -> Option<RegistryEvent> {
        for target in targets {
            self.targets.remove(target);
        }
        self.instances.remove(targets)
    }

    /// Everything is to be read anew.
    pub(crate) fn start_over(&mut self) {
        self.lists.values_mut().for_each(|list| list.read = false);
        self.targets.values_mut().for_each(|followed| followed.read = false);
    }

    /// Whether every list and every listed service was read.
    pub(crate) fn is_complete(&self) -> bool {
        self.lists.values().all(|list| list.read) && self.targets.values().all(|followed| followed.read)
    }

    /// All there is.
    pub(crate) fn all(&self) -> RegistryEvent {
        RegistryEvent::Reset { scope: Scope::All, entries: self.instances.all().map(Entry::from).collect() }
    }

    /// All there is of the services that were read, where others were not.
    pub(crate) fn all_read(&self) -> Option<RegistryEvent> {
        self.instances.everything_scoped()
    }

    /// What is wrong with the source as a whole: a list fails, or every service does.
    pub(crate) fn source_error(&self) -> Option<&ConsulError> {
        let list = self.lists.values().find_map(|list| list.failing.as_ref());
        list.or_else(|| {
            let first = self.targets.values().next()?.failing.as_ref();
            first.filter(|_| self.targets.values().all(|followed| followed.failing.is_some()))
        })
    }

    /// What is wrong with single objects.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> =
            self.lists.values().flat_map(|list| &list.problems).cloned().collect();
        // Said once for the source, not again for each of its services.
        let single = self.source_error().is_none();
        for (target, followed) in &self.targets {
            problems.extend(followed.problems.iter().cloned());
            if let Some(error) = followed.failing.as_ref().filter(|_| single) {
                problems.push(Problem::error(target.describe(), format!("{}: {}", error.kind, error.reason)));
            }
        }
        problems.sort();
        problems.dedup();
        problems
    }
}

fn left_out(name: &str, error: &weft_model::InvalidName) -> Problem {
    Problem::warning(format!("service {name:?}"), format!("it is left out of the mesh: {}", error.reason))
}

fn unsure() -> Problem {
    Problem::warning(
        "the list of services",
        "the token does not see all services, and this version of Consul does not say which: services that vanish are \
         kept. Give the token `service_prefix \"\" { policy = \"read\" }`",
    )
}

#[cfg(test)]
mod tests;
