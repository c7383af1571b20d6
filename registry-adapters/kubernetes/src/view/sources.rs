//! Which lists were read, and which fail.
//!
//! Services and slices are the registry itself: where one of them fails, the source does. Without pods nobody's identity and
//! proxy is known, and without nodes nobody's place; a refusal of these is a problem, and the rest goes on.

use std::collections::BTreeMap;

use weft_registry::Problem;

use crate::error::KubernetesError;
use crate::object::{Kind, Source};

#[derive(Debug)]
pub(super) struct Sources(BTreeMap<Source, State>);

#[derive(Debug, Default)]
struct State {
    /// In the present round.
    read: bool,
    failing: Option<KubernetesError>,
}

impl State {
    fn is_refused(&self) -> bool {
        self.failing.as_ref().is_some_and(KubernetesError::is_refusal)
    }
}

impl Sources {
    pub(super) fn new(sources: Vec<Source>) -> Self {
        Self(sources.into_iter().map(|source| (source, State::default())).collect())
    }

    pub(super) fn on_listed(&mut self, source: &Source, current: bool) {
        if let Some(state) = self.0.get_mut(source) {
            state.read |= current;
            state.failing = None;
        }
    }

    pub(super) fn on_well(&mut self, source: &Source) {
        if let Some(state) = self.0.get_mut(source) {
            state.failing = None;
        }
    }

    pub(super) fn on_failed(&mut self, source: &Source, error: KubernetesError) {
        if let Some(state) = self.0.get_mut(source) {
            state.failing = Some(error);
        }
    }

    pub(super) fn start_over(&mut self) {
        self.0.values_mut().for_each(|state| state.read = false);
    }

    /// Whether everything was read that there is to read. What is refused for good is not waited for; what is down is, since
    /// a workload whose pod is not known would be told as one without a proxy.
    pub(super) fn are_complete(&self) -> bool {
        self.0.iter().all(|(source, state)| state.read || (source.kind.is_optional() && state.is_refused()))
    }

    /// Whether a pod that is not known is not there.
    pub(super) fn pods_are_read(&self) -> bool {
        self.0.iter().filter(|(source, _)| source.kind == Kind::Pods).all(|(_, state)| !state.is_refused())
    }

    /// What is wrong with the source as a whole.
    pub(super) fn error(&self) -> Option<&KubernetesError> {
        let counts = |(source, state): &(&Source, &State)| !(source.kind.is_optional() && state.is_refused());
        self.0.iter().filter(counts).find_map(|(_, state)| state.failing.as_ref())
    }

    /// What the mesh has to do without.
    pub(super) fn problems(&self) -> Vec<Problem> {
        // Said once for the source, not again for each kind.
        if self.error().is_some() {
            return Vec::new();
        }
        let problem = |(source, state): (&Source, &State)| {
            let error = state.failing.as_ref()?;
            let without = match source.kind {
                Kind::Pods => {
                    "without them no pod's identity and proxy is known, and new ones are outside the mesh"
                }
                _ => "without them no pod's region and zone is known",
            };
            let message = format!("{}: {}; {without}", error.kind, error.reason);
            Some(Problem::error(source.to_string(), message))
        };
        self.0.iter().filter_map(problem).collect()
    }
}
