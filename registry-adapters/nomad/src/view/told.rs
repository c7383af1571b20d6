//! What is wrong: with the source as a whole, and with single objects. Decided from the view as it is.

use weft_registry::Problem;

use super::{List, View};
use crate::error::NomadError;

impl View {
    /// What is wrong with the source as a whole.
    pub(crate) fn source_error(&self) -> Option<&NomadError> {
        let list = |list| self.lists.get(&list).and_then(|reading| reading.failing.as_ref());
        list(List::Services)
            .or_else(|| list(List::Allocations))
            .or_else(|| {
                let seen = self.services.keys().any(|target| !self.hidden.contains_key(&target.namespace));
                self.hidden.values().next().filter(|_| !seen)
            })
            .or_else(|| {
                let first = self.services.values().next()?.reading.failing.as_ref();
                first.filter(|_| self.services.values().all(|service| service.reading.failing.is_some()))
            })
    }

    /// What is wrong with single objects.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        // Said once for the source, not again for each of its services.
        let single = self.source_error().is_none();
        for (target, service) in &self.services {
            problems.extend(service.problems.iter().cloned());
            if let Some(error) = service.reading.failing.as_ref().filter(|_| single) {
                problems.push(Problem::error(target.describe(), format!("{}: {}", error.kind, error.reason)));
            }
        }
        for (namespace, error) in self.hidden.iter().filter(|_| single) {
            let message = format!(
                "nothing of it is listed any more, and it can't be asked: {}; its services are kept",
                error.reason
            );
            problems.push(Problem::error(format!("namespace {namespace}"), message));
        }
        if let Some(error) = self.lists.get(&List::Nodes).and_then(|nodes| nodes.failing.as_ref()) {
            let message = format!(
                "{}; zones are not known, and nodes that fail are noticed late (node policy \"read\")",
                error.reason
            );
            problems.push(Problem::warning("the list of nodes", message));
        }
        problems.sort();
        problems.dedup();
        problems
    }
}
