//! What the control plane's rows are made of: percentiles, and the CPU time of both sides.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use crate::measure::Cpu;

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
