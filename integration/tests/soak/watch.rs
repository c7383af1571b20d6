//! What a process holds: from `/proc`, and its own count of tasks.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

/// Of all processes, by name.
pub(crate) type Holdings = BTreeMap<&'static str, Held>;

/// At one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) kernel: Kernel,
    pub(crate) tasks: u64,
}

/// What the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kernel {
    pub(crate) resident_kib: u64,
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
}

impl Kernel {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let number = |field: &str| {
            let line =
                status.lines().find_map(|line| line.strip_prefix(field)).with_context(|| field.to_owned())?;
            anyhow::Ok(line.split_whitespace().next().context("a number")?.parse::<u64>()?)
        };
        Ok(Self {
            resident_kib: number("VmRSS:")?,
            descriptors: std::fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64,
            threads: number("Threads:")?,
        })
    }

    /// With the tasks that its metrics name.
    pub(crate) fn with(self, metrics: &str) -> Result<Held> {
        let lines = metrics
            .lines()
            .filter(|line| line.starts_with("weft_tasks") || line.starts_with("weft_control_tasks"));
        let tasks: Vec<f64> = lines.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
        ensure!(!tasks.is_empty(), "no tasks in the metrics");
        Ok(Held { kernel: self, tasks: tasks.iter().sum::<f64>() as u64 })
    }
}

impl Held {
    /// Whether it stands still between two looks.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.kernel.descriptors == other.kernel.descriptors && self.tasks == other.tasks
    }

    /// Whether not one descriptor and not one task is more than in `before`.
    pub(crate) fn left_nothing(&self, before: &Self) -> bool {
        self.kernel.descriptors <= before.kernel.descriptors && self.tasks <= before.tasks
    }

    /// For complaints.
    pub(crate) fn counts(&self) -> String {
        format!("{} descriptors and {} tasks", self.kernel.descriptors, self.tasks)
    }
}
