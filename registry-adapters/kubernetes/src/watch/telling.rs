//! What the stream was told, so that nothing is said twice and nothing is left unsaid.
//!
//! Each `Ok` item says that the source is well. So what is wrong with it is said again behind one, and else from time to
//! time; and a source that is well again says so even when it has no news.

use std::time::Duration;

use tokio::time::Instant;
use weft_model::RegistryEvent;
use weft_registry::{Problem, RegistryError};

use super::Item;
use crate::error::KubernetesError;

#[derive(Debug, Default)]
pub(super) struct Telling {
    error: Option<(KubernetesError, Instant)>,
    problems: Vec<Problem>,
    /// When to tell the problems that there are then.
    problems_due: Option<Instant>,
}

impl Telling {
    /// The items for changes and the source's state; `answered`: the server just answered.
    pub(super) fn items(
        &mut self,
        events: Vec<RegistryEvent>,
        error: Option<&KubernetesError>,
        answered: bool,
    ) -> Vec<Item> {
        let now = Instant::now();
        let Some(error) = error else {
            let was_bad = self.error.take().is_some();
            let well =
                (events.is_empty() && (was_bad || answered)).then(|| RegistryEvent::Upsert(Vec::new()));
            return events.into_iter().chain(well).map(Ok).collect();
        };
        let due =
            self.error.as_ref().is_none_or(|(told, at)| told.kind != error.kind || now >= *at + REPEAT_AFTER);
        if !due && events.is_empty() {
            return Vec::new();
        }
        self.error = Some((error.clone(), now));
        events.into_iter().map(Ok).chain([Err(RegistryError::from(error))]).collect()
    }

    /// Many objects may turn bad together, and each time the list of problems is whole: it is told once for them.
    pub(super) fn problems_may_differ(&mut self) {
        self.problems_due.get_or_insert_with(|| Instant::now() + TELL_PROBLEMS_AFTER);
    }

    pub(super) fn problems_due(&self) -> Option<Instant> {
        self.problems_due
    }

    /// The time has come: the problems that there are now, where they are other ones.
    pub(super) fn tell_problems(&mut self, problems: Vec<Problem>) -> Option<Item> {
        self.problems_due = None;
        if problems == self.problems {
            return None;
        }
        self.problems.clone_from(&problems);
        Some(Err(RegistryError::problems(problems)))
    }
}

/// So long bad objects are collected.
const TELL_PROBLEMS_AFTER: Duration = Duration::from_millis(200);
/// An error that goes on is said again at this rate at most.
const REPEAT_AFTER: Duration = Duration::from_secs(1);
