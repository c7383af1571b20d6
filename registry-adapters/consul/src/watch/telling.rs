//! What the stream was told, so that nothing is said twice and nothing is left unsaid.
//!
//! Each `Ok` item says that the source is well. So what is wrong with it is said again behind one, and else from time to
//! time; and a source that is well again says so even when it has no news.

use std::time::Duration;

use tokio::time::Instant;
use weft_model::RegistryEvent;
use weft_registry::{Problem, RegistryError};

use super::Item;
use crate::error::ConsulError;

#[derive(Debug, Default)]
pub(super) struct Telling {
    error: Option<(ConsulError, Instant)>,
    problems: Vec<Problem>,
    /// When to tell the problems that there are then.
    problems_due: Option<Instant>,
}

impl Telling {
    /// The items for a change and the source's state; `answered`: the list of services was just read.
    pub(super) fn items(
        &mut self,
        event: Option<RegistryEvent>,
        error: Option<&ConsulError>,
        answered: bool,
    ) -> Vec<Item> {
        let now = Instant::now();
        let Some(error) = error else {
            let was_bad = self.error.take().is_some();
            let well = || (was_bad || answered).then(|| RegistryEvent::Upsert(Vec::new()));
            return event.or_else(well).map(Ok).into_iter().collect();
        };
        let due =
            self.error.as_ref().is_none_or(|(told, at)| told.kind != error.kind || now >= *at + REPEAT_AFTER);
        if !due && event.is_none() {
            return Vec::new();
        }
        self.error = Some((error.clone(), now));
        event.map(Ok).into_iter().chain([Err(RegistryError::from(error))]).collect()
    }

    /// Many services may turn bad together, and each time the list of problems is whole: it is told once for them.
    pub(super) fn notice_problems(&mut self, problems: &[Problem]) {
        if self.problems_due.is_none() && self.problems != problems {
            self.problems_due = Some(Instant::now() + TELL_PROBLEMS_AFTER);
        }
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

/// So long bad services are collected.
const TELL_PROBLEMS_AFTER: Duration = Duration::from_millis(100);
/// An error that goes on is said again at this rate at most.
const REPEAT_AFTER: Duration = Duration::from_secs(1);
