//! What the kernel says of a process: CPU time and memory; and on which core it runs.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

/// The core of the load: this process, its clients and backends.
pub(crate) const LOAD: usize = 0;
/// The core of what is measured, and of nothing else.
pub(crate) const MEASURED: usize = 1;

fn only(core: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(core);
    set
}

/// Puts this process, and what it starts, on one core.
pub(crate) fn pin(core: usize) -> Result<()> {
    Ok(sched_setaffinity(None, &only(core))?)
}

/// Puts a running process with all its threads on one core.
pub(crate) fn pin_process(pid: u32, core: usize) -> Result<()> {
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let id: i32 = task?.file_name().to_string_lossy().parse()?;
        sched_setaffinity(Pid::from_raw(id), &only(core))?;
    }
    Ok(())
}

/// User and system time of a process so far, in seconds.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is in parentheses and may hold blanks.
    let fields: Vec<&str> = stat.rsplit(')').next().context("no stat")?.split_whitespace().collect();
    let ticks = |n: usize| fields.get(n).and_then(|f| f.parse::<f64>().ok()).context("no CPU time in stat");
    Ok((ticks(11)? + ticks(12)?) / rustix::param::clock_ticks_per_second() as f64)
}

/// CPU time of a process to the nanosecond, from the scheduler's own account of each thread.
pub(crate) struct Cpu {
    pid: u32,
    /// Threads end; what they used stays.
    threads: BTreeMap<String, u64>,
}

impl Cpu {
    pub(crate) fn of(pid: u32) -> Self {
        Self { pid, threads: BTreeMap::new() }
    }

    /// All that it has used so far, in milliseconds.
    pub(crate) fn total_ms(&mut self) -> Result<f64> {
        for task in std::fs::read_dir(format!("/proc/{}/task", self.pid))? {
            let task = task?;
            // A thread may end between the listing and the look.
            let Ok(stat) = std::fs::read_to_string(task.path().join("schedstat")) else { continue };
            let used = stat.split(' ').next().and_then(|n| n.parse().ok()).context("no schedstat")?;
            self.threads.insert(task.file_name().to_string_lossy().into_owned(), used);
        }
        Ok(self.threads.values().sum::<u64>() as f64 / 1e6)
    }
}

/// Resident memory of a process in MiB.
pub(crate) fn resident_mib(pid: u32) -> Result<f64> {
    memory_mib(pid, "status", "VmRSS:")
}

/// The most resident memory that a process ever had, in MiB.
pub(crate) fn peak_mib(pid: u32) -> Result<f64> {
    memory_mib(pid, "status", "VmHWM:")
}

/// Its share of memory in MiB, where what it shares with others counts in parts.
pub(crate) fn proportional_mib(pid: u32) -> Result<f64> {
    memory_mib(pid, "smaps_rollup", "Pss:")
}

fn memory_mib(pid: u32, file: &str, field: &str) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .with_context(|| format!("no {field} in {file}"))?;
    let kib = line.split_whitespace().next().and_then(|n| n.parse::<f64>().ok()).context("no number")?;
    Ok(kib / 1024.0)
}
