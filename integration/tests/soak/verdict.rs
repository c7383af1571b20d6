//! What the samples say: medians of windows, so that one sample decides nothing.
//!
//! The last half of the run is cut into four windows. Growth is the last window's median against the first one's.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use super::watch::{Held, Holdings};

/// Windows in the last half.
const WINDOWS: usize = 4;
/// A run from this length on is held to 2 % alone.
const LONG: Duration = Duration::from_secs(540);

/// How much memory may grow in the last half.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    percent: f64,
    /// Less than this is no growth: in a short run buffers and tables are still finding their size.
    kib: f64,
}

impl Limit {
    pub(crate) fn of(length: Duration) -> Self {
        match length >= LONG {
            true => Self { percent: 2.0, kib: 0.0 },
            false => Self { percent: 2.0, kib: 1536.0 },
        }
    }
}

/// The samples of each process, one a second.
#[derive(Debug, Default)]
pub(crate) struct Series(BTreeMap<&'static str, Vec<Held>>);

impl Series {
    pub(crate) fn add(&mut self, all: Holdings) {
        for (name, held) in all {
            self.0.entry(name).or_default().push(held);
        }
    }

    /// First and last median of the last half, in KiB.
    fn growth(samples: &[Held]) -> Option<(f64, f64)> {
        let half = samples.get(samples.len() / 2..)?;
        let window = half.len() / WINDOWS;
        let first = half.get(..window)?;
        let last = half.get(half.len() - window..)?;
        Some((median(first)?, median(last)?))
    }

    /// Whose memory grew by more than the limit.
    pub(crate) fn complaints(&self, limit: Limit) -> Vec<String> {
        let mut complaints = Vec::new();
        for (name, samples) in &self.0 {
            let Some((first, last)) = Self::growth(samples) else {
                complaints.push(format!("{name}: too few samples"));
                continue;
            };
            if last - first > (first * limit.percent / 100.0).max(limit.kib) {
                complaints.push(format!(
                    "{name}: memory grew from {first:.0} to {last:.0} KiB in the last half: {limit:?}"
                ));
            }
        }
        complaints
    }

    /// For people.
    pub(crate) fn table(&self, before: &Holdings) -> String {
        let mut text = "| process | before KiB | highest | last half, first window | last window | growth % | descriptors before | highest | tasks before | highest | threads, highest |\n\
                        |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n"
            .to_owned();
        for (name, samples) in &self.0 {
            let Some(before) = before.get(name) else { continue };
            let (first, last) = Self::growth(samples).unwrap_or((f64::NAN, f64::NAN));
            let most = |field: fn(&Held) -> u64| samples.iter().map(field).max().unwrap_or_default();
            _ = writeln!(
                text,
                "| {name} | {} | {} | {first:.0} | {last:.0} | {:.2} | {} | {} | {} | {} | {} |",
                before.kernel.resident_kib,
                most(|held| held.kernel.resident_kib),
                (last - first) / first * 100.0,
                before.kernel.descriptors,
                most(|held| held.kernel.descriptors),
                before.tasks,
                most(|held| held.tasks),
                most(|held| held.kernel.threads),
            );
        }
        text
    }
}

fn median(samples: &[Held]) -> Option<f64> {
    let mut values: Vec<u64> = samples.iter().map(|held| held.kernel.resident_kib).collect();
    values.sort_unstable();
    values.get(values.len() / 2).map(|value| *value as f64)
}

#[test]
fn growth_in_the_last_half_is_seen_and_a_single_peak_is_not() {
    let kernel = |resident_kib| super::watch::Kernel { resident_kib, descriptors: 1, threads: 1 };
    let held = |resident_kib| Held { kernel: kernel(resident_kib), tasks: 1 };

    let mut series = Series::default();
    for n in 0..80 {
        let peak = if n == 79 { 90_000 } else { 10_000 };
        series.add(BTreeMap::from([("steady", held(peak)), ("leaks", held(10_000 + n * 50))]));
    }
    let complaints = series.complaints(Limit::of(LONG));
    assert!(complaints.len() == 1 && complaints[0].starts_with("leaks"), "{complaints:?}");
}
