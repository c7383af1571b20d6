//! Starts a node's components and reaps whatever ends in its namespace. One that ends unasked is started again after a
//! second, as a machine's service manager would do; one that was stopped stays so until it is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

use crate::command;
use crate::components::Component;
use crate::files::Folder;

/// Between the end of a component and its next start.
const PAUSE: Duration = Duration::from_secs(1);
/// For a killed component to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// The components and which of them run.
pub(crate) struct Supervisor {
    components: Vec<Component>,
    folder: Folder,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    wanted: BTreeSet<&'static str>,
    running: BTreeMap<i32, &'static str>,
}

impl Supervisor {
    pub(super) fn new(components: Vec<Component>, folder: Folder) -> Self {
        Self { components, folder, state: Mutex::default(), ended: Condvar::new() }
    }

    /// Starts a component, unless it runs.
    pub(crate) fn start(&self, name: &str) -> Result<()> {
        let component = self.component(name)?;
        let mut state = self.state();
        state.wanted.insert(component.name);
        if state.running.values().any(|running| *running == component.name) {
            return Ok(());
        }
        // The lock is held: its end must not be reaped before its number is known.
        let pid = self.spawn(component)?;
        state.running.insert(pid, component.name);
        Ok(())
    }

    /// Kills a component; returns when it is gone.
    pub(crate) fn stop(&self, name: &str) -> Result<()> {
        let component = self.component(name)?;
        let mut state = self.state();
        state.wanted.remove(component.name);
        let end = Instant::now() + PATIENCE;
        while let Some(pid) = pid_of(&state, component.name) {
            kill_process(pid, Signal::KILL).with_context(|| format!("killing {name}"))?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("{name} is still there {} s after it was killed", PATIENCE.as_secs());
            }
            let waited = self.ended.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// Reaps for ever.
    pub(super) fn reap(&self) -> Result<()> {
        loop {
            let (pid, status) = match wait(WaitOptions::empty()) {
                Ok(Some(ended)) => ended,
                // All have been stopped.
                Ok(None) | Err(Errno::CHILD) => {
                    std::thread::park_timeout(PAUSE);
                    continue;
                }
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error).context("waiting for the end of a process"),
            };
            let name = self.state().running.remove(&pid.as_raw_nonzero().get());
            self.ended.notify_all();
            let Some(name) = name else { continue };
            if self.state().wanted.contains(name) {
                eprintln!("{name} ended by itself: {status:?}");
                std::thread::park_timeout(PAUSE);
                self.start(name)?;
            }
        }
    }

    fn spawn(&self, component: &Component) -> Result<i32> {
        let log = self.folder.log(component.name);
        let opened: std::io::Result<File> = OpenOptions::new().create(true).append(true).open(&log);
        let output = opened.with_context(|| format!("opening {}", log.display()))?;
        let mut command = command::of(&component.program);
        command.args(&component.arguments).stdout(output.try_clone()?).stderr(output);
        // A signal from a terminal is meant for who started the cluster.
        let child = command.process_group(0).current_dir("/").spawn();
        let child = child.with_context(|| format!("starting {}", command::line(&command)))?;
        Ok(child.id().cast_signed())
    }

    fn component(&self, name: &str) -> Result<&Component> {
        self.components.iter().find(|component| component.name == name).with_context(|| {
            let known: Vec<&str> = self.components.iter().map(|component| component.name).collect();
            format!("no component {name:?}; there are {}", known.join(", "))
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The maps are whole between any two statements, so what a panic left is right.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pid_of(state: &State, name: &str) -> Option<Pid> {
    let pid = state.running.iter().find(|(_, running)| **running == name)?.0;
    Pid::from_raw(*pid)
}
