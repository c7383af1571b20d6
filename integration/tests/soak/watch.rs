//! What a process holds: from `/proc`, and its own count of tasks.

use anyhow::{Context, Result};

/// At one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) resident_kib: u64,
    pub(crate) descriptors: usize,
    pub(crate) threads: u64,
    pub(crate) tasks: u64,
}

/// Of a process and its `/metrics`.
pub(crate) fn held(pid: u32, metrics: &str) -> Result<Held> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let number = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field)).with_context(|| field.to_owned())?;
        anyhow::Ok(line.split_whitespace().next().context("a number")?.parse::<u64>()?)
    };
    let tasks = metrics.lines().filter(|line| line.starts_with("weft_tasks"));
    let tasks: Vec<f64> = tasks.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
    anyhow::ensure!(!tasks.is_empty(), "no weft_tasks in the metrics");
    Ok(Held {
        resident_kib: number("VmRSS:")?,
        descriptors: std::fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
        threads: number("Threads:")?,
        tasks: tasks.iter().sum::<f64>() as u64,
    })
}
