//! The figures of a pair: medians over the rounds, ratios against each peer.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use anyhow::Result;
use serde::Serialize;

use crate::report::Section;
use crate::{Plan, peers};

/// One measurement of one candidate.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Sample {
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    pub(crate) cpu_us_per_request: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) resident_mib: f64,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>7} requests, {} failed, {:>6.1} us CPU each, p50 {:>6.0} us, p99 {:>6.0} us, p99.9 {:>6.0} us, {:>6.1} MiB",
            self.requests,
            self.failed,
            self.cpu_us_per_request,
            self.p50_us,
            self.p99_us,
            self.p999_us,
            self.resident_mib
        )
    }
}

/// All measurements of a scenario.
#[derive(Serialize)]
pub(crate) struct Figures {
    rate: u32,
    connections: u32,
    seconds: u64,
    versions: BTreeMap<String, String>,
    samples: BTreeMap<String, Vec<Sample>>,
    /// System calls a request, of both halves together.
    pub(crate) calls: BTreeMap<String, f64>,
}

impl Figures {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            rate: plan.rate,
            connections: plan.connections,
            seconds: plan.seconds,
            versions: BTreeMap::new(),
            samples: BTreeMap::new(),
            calls: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, name: &str, sample: Sample) {
        self.versions.entry(name.to_owned()).or_insert_with(|| peers::version(name));
        self.samples.entry(name.to_owned()).or_default().push(sample);
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.samples.keys().cloned().collect()
    }

    /// The section of the report.
    pub(crate) fn section(&self) -> Result<Section> {
        let failed: u64 = self.samples.values().flatten().map(|sample| sample.failed).sum();
        let failures = (failed > 0).then(|| format!("{failed} requests failed"));
        Ok(Section {
            name: "pair_h1",
            markdown: self.markdown()?,
            figures: serde_json::to_value(self)?,
            failures: failures.into_iter().collect(),
        })
    }

    fn markdown(&self) -> Result<String> {
        let median = |name: &str, field: fn(&Sample) -> f64| {
            let mut values: Vec<f64> = self.samples.get(name).into_iter().flatten().map(field).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
        };
        let mut text = format!(
            "## A pair, HTTP/1.1\n\nHTTP/1.1 through a pair of sidecars, mTLS 1.3 between; {} requests/s, {} connections, {} s, medians.\n\n\
             | candidate | CPU us a request | Weft's share of it | p50 us | p99 us | p99.9 us | added p50 | added p99 | system calls a request | MiB, both halves |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
            self.rate, self.connections, self.seconds
        );
        for name in peers::NAMES.iter().filter(|name| self.samples.contains_key(**name)) {
            let ratio = median("weft", |s| s.cpu_us_per_request) / median(name, |s| s.cpu_us_per_request);
            let ratio = if *name == "direct" { "-".to_owned() } else { format!("{ratio:.2}") };
            let calls = self.calls.get(*name).map_or("-".to_owned(), |calls| format!("{calls:.1}"));
            writeln!(
                text,
                "| {name} | {:.1} | {ratio} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {calls} | {:.1} |",
                median(name, |s| s.cpu_us_per_request),
                median(name, |s| s.p50_us),
                median(name, |s| s.p99_us),
                median(name, |s| s.p999_us),
                median(name, |s| s.p50_us) - median("direct", |s| s.p50_us),
                median(name, |s| s.p99_us) - median("direct", |s| s.p99_us),
                median(name, |s| s.resident_mib),
            )?;
        }
        for (name, version) in &self.versions {
            writeln!(text, "\n- {name}: {version}")?;
        }
        Ok(text)
    }
}
