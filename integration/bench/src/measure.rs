//! What the kernel says of a process: CPU time, resident memory; and system calls, counted by strace.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};
use tokio::process::Command;

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
    memory_mib(pid, "VmRSS:")
}

/// The most resident memory that a process ever had, in MiB.
pub(crate) fn peak_mib(pid: u32) -> Result<f64> {
    memory_mib(pid, "VmHWM:")
}

fn memory_mib(pid: u32, field: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no memory in status")?;
    let kib = line.split_whitespace().next().and_then(|n| n.parse::<f64>().ok()).context("no number")?;
    Ok(kib / 1024.0)
}

/// Counts the system calls of some processes while `work` runs. `None` where there is no strace.
pub(crate) async fn system_calls<T>(
    pids: &[u32],
    work: impl Future<Output = Result<T>>,
) -> Result<Option<(u64, T)>> {
    let output = tempfile::NamedTempFile::new()?;
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-o"]).arg(output.path()).kill_on_drop(true);
    for pid in pids {
        command.args(["-p", &pid.to_string()]);
    }
    let Ok(mut strace) =
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn()
    else {
        return Ok(None);
    };
    tokio::time::sleep(Duration::from_millis(700)).await;
    let done = work.await?;
    if let Some(pid) = strace.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
        kill_process(pid, Signal::INT)?;
    }
    strace.wait().await?;
    let table = std::fs::read_to_string(output.path())?;
    Ok(total(&table).map(|total| (total, done)))
}

/// The number of calls in the last line of strace's table.
fn total(table: &str) -> Option<u64> {
    let line = table.lines().rev().find(|line| line.ends_with("total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::total;

    #[test]
    fn the_total_is_read_with_and_without_errors() {
        assert_eq!(total("100.00    0.001404           0      1234        12 total\n"), Some(1234));
        assert_eq!(total("100.00    0.001404           0      1234           total\n"), Some(1234));
        assert_eq!(total("nothing"), None);
    }
}
