//! Rows of the control plane's table: what was asked, what was measured, whether it holds.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use crate::measure::Cpu;

/// One line of the table.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) work: String,
    /// What istiod needs for it, where that was measured on such a machine.
    pub(super) istiod: &'static str,
    pub(super) limit: &'static str,
    pub(super) measured: String,
    /// `None`: refused, since the load was the bottleneck; the text says so.
    pub(super) holds: Option<bool>,
    /// All figures.
    pub(super) figures: Value,
}

/// The rows as a table.
pub(super) fn markdown(rows: &[Row]) -> Result<String> {
    let mut text = "| work | at most | measured | holds | istiod |\n|---|---|---|---|---|\n".to_owned();
    for Row { work, istiod, limit, measured, holds, .. } in rows {
        let holds = match holds {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "refused",
        };
        writeln!(text, "| {work} | {limit} | {measured} | {holds} | {istiod} |")?;
    }
    Ok(text)
}

/// Percentiles of times in milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Times {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) most: f64,
}

impl Times {
    pub(super) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |share: f64| {
            let place = (times.len().saturating_sub(1) as f64 * share).round() as usize;
            times.get(place).map_or(0.0, |time| time.as_secs_f64() * 1e3)
        };
        Self { p50: at(0.5), p99: at(0.99), most: at(1.0) }
    }
}

/// CPU time of the control plane and of the load over a stretch of work.
pub(super) struct Meter {
    started: Instant,
    control: Cpu,
    load: Cpu,
    before: (f64, f64),
}

/// What a stretch cost.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Used {
    pub(super) wall_ms: f64,
    pub(super) control_ms: f64,
    pub(super) load_ms: f64,
}

impl Meter {
    pub(super) fn start(pid: u32) -> Result<Self> {
        let (mut control, mut load) = (Cpu::of(pid), Cpu::of(std::process::id()));
        let before = (control.total_ms()?, load.total_ms()?);
        Ok(Self { started: Instant::now(), control, load, before })
    }

    pub(super) fn stop(mut self) -> Result<Used> {
        let wall_ms = self.started.elapsed().as_secs_f64() * 1e3;
        let (control, load) = (self.control.total_ms()?, self.load.total_ms()?);
        Ok(Used { wall_ms, control_ms: control - self.before.0, load_ms: load - self.before.1 })
    }
}

impl Used {
    /// Whether the load's core was so busy that times are the load's own.
    pub(super) fn is_load_bound(&self) -> bool {
        self.load_ms > TOO_BUSY * self.wall_ms
    }
}

const TOO_BUSY: f64 = 0.85;
