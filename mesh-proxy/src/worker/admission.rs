//! Whether a request is taken on: the number in progress on this worker, and the pressure on the process.
//!
//! A request that is refused here has cost a head, and was seen by nobody: its caller's proxy may send it elsewhere.

use std::cell::Cell;
use std::rc::Rc;

use super::Worker;
use super::tracker::{Busy, Guard};
use crate::http::failure::Failure;
use crate::overload::Pressure;
use crate::record::ResponseFlag;
use crate::telemetry::Refused;

/// Requests in progress on a worker.
#[derive(Debug, Default)]
pub(crate) struct InProgress(Rc<Cell<usize>>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    all: Rc<Cell<usize>>,
    _busy: Busy,
}

impl Worker {
    /// A place for a request on the connection of `guard`.
    ///
    /// # Errors
    /// When this proxy has as much to do as it may.
    pub(crate) fn admit(&self, guard: &Guard) -> Result<Place, Failure> {
        let (overload, running) = (&self.shared.overload, self.in_progress.0.get());
        if overload.pressure() == Pressure::Full && running >= overload.always {
            self.shared.telemetry.refused_by_limit(Refused::RequestMemory);
            let words = overload.sentence().unwrap_or_default();
            return Err(Failure::unsent(ResponseFlag::Overloaded, words));
        }
        let most = self.shared.settings.limits.requests;
        if running >= most {
            self.shared.telemetry.refused_by_limit(Refused::Requests);
            let words = format!("limits.requests ({most}) are in progress on this worker");
            return Err(Failure::unsent(ResponseFlag::Overloaded, words));
        }
        self.in_progress.0.set(running + 1);
        Ok(Place { all: self.in_progress.0.clone(), _busy: guard.busy() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.set(self.all.get().saturating_sub(1));
    }
}
