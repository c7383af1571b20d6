//! Lets hyper spawn its connection and stream tasks on this worker's own thread.
//!
//! Tasks are `!Send` and live in the worker's runtime, which owns them: they end with the worker.

use std::future::Future;

use hyper::rt::Executor;

/// Spawns on this thread's runtime.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LocalExec;

impl<F> Executor<F> for LocalExec
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        // The worker's runtime owns the task; hyper needs no handle to it.
        drop(tokio::task::spawn_local(future));
    }
}
