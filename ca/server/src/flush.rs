//! Makes renames durable, many with one flush.
//!
//! A flush of a directory takes the disk milliseconds, whatever it holds. Who waits while one runs is served by the next,
//! together with everybody else who came meanwhile. Blocking; the callers are on threads for that.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::state::{StateError, flush_directory};

/// Flushes directories for many callers.
#[derive(Debug)]
pub(crate) struct Flush {
    directories: [PathBuf; 2],
    /// How many have asked.
    asked: AtomicU64,
    /// How many of them were served; locked by who flushes.
    served: Mutex<u64>,
}

impl Flush {
    pub(crate) fn of(directories: [PathBuf; 2]) -> Self {
        Self { directories, asked: AtomicU64::new(0), served: Mutex::new(0) }
    }

    /// Returns when all that was done before the call is on the disk.
    pub(crate) fn wait(&self) -> Result<(), StateError> {
        let own = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        // A number is good whoever left it.
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        if *served >= own {
            return Ok(());
        }
        // Who has asked by now did what it wants durable before.
        let asked = self.asked.load(Ordering::SeqCst);
        for directory in &self.directories {
            flush_directory(directory)?;
        }
        *served = asked;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_while_a_flush_runs_is_served_with_the_others_by_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let flush = Flush::of([directory.path().to_owned(), directory.path().to_owned()]);
        std::thread::scope(|scope| {
            let running = flush.served.lock().unwrap();
            let waiting: Vec<_> = (0..8).map(|_| scope.spawn(|| flush.wait())).collect();
            while flush.asked.load(Ordering::SeqCst) < 8 {
                std::thread::yield_now();
            }
            drop(running);
            assert!(waiting.into_iter().all(|one| one.join().unwrap().is_ok()));
        });
        assert_eq!(*flush.served.lock().unwrap(), 8);
        flush.wait().unwrap();
        assert_eq!(*flush.served.lock().unwrap(), 9);
    }

    #[test]
    fn a_flush_that_fails_serves_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let gone = directory.path().join("gone");
        let flush = Flush::of([gone.clone(), directory.path().to_owned()]);
        assert!(flush.wait().is_err() && flush.wait().is_err());
        std::fs::create_dir(gone).unwrap();
        flush.wait().unwrap();
    }
}
