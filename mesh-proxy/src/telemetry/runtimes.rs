//! The process's runtimes, for the number of their tasks: one that only grows is a leak.

use std::sync::{Mutex, PoisonError};

use tokio::runtime::{Handle, RuntimeMetrics};

/// Every runtime, by the name of what it runs.
#[derive(Debug, Default)]
pub(super) struct Runtimes(Mutex<Vec<(String, RuntimeMetrics)>>);

impl Runtimes {
    pub(super) fn add(&self, name: String, handle: &Handle) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((name, handle.metrics()));
    }

    /// Tasks that have not ended, of each.
    pub(super) fn tasks(&self) -> Vec<(String, usize)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(name, runtime)| (name.clone(), runtime.num_alive_tasks())).collect()
    }
}
