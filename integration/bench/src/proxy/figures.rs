//! The figures of a scenario: medians over the rounds, ratios against each peer, in the report's form.
//!
//! Latency that a candidate adds is against the direct run of the same round: the machine's own changes between rounds.
//! A sample that the generator spoilt is kept in the JSON and used for nothing.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use crate::proxy::scenario::Scenario;
use crate::proxy::{Args, peers};
use crate::report::Section;
use crate::row::Row;

/// One measurement of one candidate.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Sample {
    pub(crate) round: u32,
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    /// Why the first failed.
    pub(crate) complaint: Option<String>,
    pub(crate) cpu_us_per_request: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) resident_mib: f64,
    /// The share of their core that generator and backend used.
    pub(crate) generator_busy: f64,
    /// Why the sample does not count.
    pub(crate) refused: Option<String>,
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
        )?;
        match &self.refused {
            Some(why) => write!(f, ", REFUSED: {why}"),
            None => Ok(()),
        }
    }
}

/// All measurements of a scenario.
#[derive(Serialize)]
pub(crate) struct Figures {
    #[serde(skip)]
    scenario: Scenario,
    rate: u32,
    connections: u32,
    seconds: u64,
    versions: BTreeMap<String, String>,
    configurations: BTreeMap<String, Vec<String>>,
    samples: BTreeMap<String, Vec<Sample>>,
    /// System calls a request, of all processes of the candidate.
    pub(crate) calls: BTreeMap<String, f64>,
}

type Field = fn(&Sample) -> f64;

impl Figures {
    pub(crate) fn new(scenario: Scenario, args: &Args) -> Self {
        Self {
            scenario,
            rate: args.rate,
            connections: args.connections,
            seconds: args.seconds,
            versions: BTreeMap::new(),
            configurations: BTreeMap::new(),
            samples: BTreeMap::new(),
            calls: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, name: &str, sample: Sample, configuration: &[String]) {
        self.versions.entry(name.to_owned()).or_insert_with(|| peers::version(name));
        self.configurations.entry(name.to_owned()).or_insert_with(|| configuration.to_vec());
        self.samples.entry(name.to_owned()).or_default().push(sample);
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.samples.keys().cloned().collect()
    }

    /// The section of the report.
    pub(crate) fn section(&self, args: &Args) -> Result<Section> {
        Ok(Section {
            name: self.scenario.name(),
            rows: self.rows(),
            markdown: self.markdown(args)?,
            figures: serde_json::to_value(self)?,
            failures: self.failures(),
        })
    }

    /// What the scenario was asked for.
    fn rows(&self) -> Vec<Row> {
        let (name, is_pair) = (self.scenario.name(), self.scenario.is_pair());
        let cpu: Field = |sample| sample.cpu_us_per_request;
        let beside = if is_pair { "haproxy" } else { "envoy" };
        let (ours, theirs) = (self.median("weft", cpu), self.median(beside, cpu));
        let mut rows = vec![Row {
            work: format!("{name}: CPU a request"),
            limit: if is_pair { "HAProxy's" } else { "half of Envoy's" },
            measured: format!("{} us", shown(ours, 1)),
            peer: format!("{beside}: {} us ({} of it)", shown(theirs, 1), shown(ratio(ours, theirs), 2)),
            holds: ratio(ours, theirs).map(|share| share <= if is_pair { 1.0 } else { 0.5 }),
            figures: Value::Null,
        }];
        if is_pair {
            rows.push(self.latency());
        }
        // gRPC was not asked for; it is held to the same.
        let most = if is_pair { 14.0 } else { 7.0 };
        let calls = |name: &str| self.calls.get(name).copied();
        rows.push(Row {
            work: format!("{name}: system calls a request"),
            limit: if is_pair { "14" } else { "7" },
            measured: shown(calls("weft"), 1),
            peer: format!("haproxy: {}, envoy: {}", shown(calls("haproxy"), 1), shown(calls("envoy"), 1)),
            holds: calls("weft").map(|calls| calls <= most),
            figures: Value::Null,
        });
        rows
    }

    fn latency(&self) -> Row {
        let added =
            |name| (self.added(name, |sample| sample.p50_us), self.added(name, |sample| sample.p99_us));
        let (ours, theirs) = (added("weft"), added("haproxy"));
        let words = |(p50, p99)| format!("{} / {} us", shown(p50, 0), shown(p99, 0));
        let most = |one: Option<f64>, other: Option<f64>| one.zip(other).map(|(one, other)| one <= other);
        Row {
            work: format!("{}: added p50 / p99", self.scenario.name()),
            limit: "HAProxy's",
            measured: words(ours),
            peer: format!("haproxy: {}", words(theirs)),
            holds: most(ours.0, theirs.0).zip(most(ours.1, theirs.1)).map(|(p50, p99)| p50 && p99),
            figures: Value::Null,
        }
    }

    fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for (name, samples) in &self.samples {
            let failed: u64 = samples.iter().map(|sample| sample.failed).sum();
            if failed > 0 {
                let why = samples.iter().find_map(|sample| sample.complaint.as_deref()).unwrap_or_default();
                failures.push(format!(
                    "{}: {failed} requests through {name} failed: {why}",
                    self.scenario.name()
                ));
            }
        }
        failures
    }

    /// The samples that count.
    fn good(&self, name: &str) -> impl Iterator<Item = &Sample> {
        self.samples.get(name).into_iter().flatten().filter(|sample| sample.refused.is_none())
    }

    fn median(&self, name: &str, field: Field) -> Option<f64> {
        middle(self.good(name).map(field).collect())
    }

    /// What the candidate adds to the direct run of the same round.
    fn added(&self, name: &str, field: Field) -> Option<f64> {
        let direct = |round| self.good("direct").find(|sample| sample.round == round).map(field);
        middle(self.good(name).filter_map(|sample| Some(field(sample) - direct(sample.round)?)).collect())
    }

    fn markdown(&self, args: &Args) -> Result<String> {
        let mut text = format!(
            "## {}\n\n{}; {} requests/s, {} callers, {} s, medians of {} rounds.\n\n\
             | candidate | CPU us a request | Weft's share of it | p50 us | p99 us | p99.9 us | added p50 | added p99 | system calls a request | MiB |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
            self.scenario.name(),
            self.scenario.title(),
            self.rate,
            self.connections,
            self.seconds,
            args.rounds
        );
        for name in peers::NAMES.iter().filter(|name| self.samples.contains_key(**name)) {
            self.row(&mut text, name)?;
        }
        for (name, samples) in &self.samples {
            for (sample, why) in samples.iter().filter_map(|sample| Some((sample, sample.refused.as_ref()?)))
            {
                writeln!(text, "\nRefused: {name} in round {}: {why}.", sample.round)?;
            }
        }
        writeln!(text)?;
        for (name, version) in self.versions.iter().filter(|(name, _)| *name != "direct") {
            writeln!(text, "- {name}: {version}")?;
        }
        Ok(text)
    }

    fn row(&self, text: &mut String, name: &str) -> Result<()> {
        let cpu: Field = |sample| sample.cpu_us_per_request;
        let (p50, p99): (Field, Field) = (|sample| sample.p50_us, |sample| sample.p99_us);
        let share = match name {
            "direct" => None,
            _ => ratio(self.median("weft", cpu), self.median(name, cpu)),
        };
        writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            shown(self.median(name, cpu), 1),
            shown(share, 2),
            shown(self.median(name, p50), 0),
            shown(self.median(name, p99), 0),
            shown(self.median(name, |sample| sample.p999_us), 0),
            shown(self.added(name, p50), 0),
            shown(self.added(name, p99), 0),
            shown(self.calls.get(name).copied(), 1),
            shown(self.median(name, |sample| sample.resident_mib), 1),
        )?;
        Ok(())
    }
}

fn ratio(ours: Option<f64>, theirs: Option<f64>) -> Option<f64> {
    ours.zip(theirs).map(|(ours, theirs)| ours / theirs)
}

/// The median, of an even count the mean of the two in the middle.
pub(crate) fn middle(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    let upper = values.get(half).copied()?;
    match values.len() % 2 {
        1 => Some(upper),
        _ => values.get(half - 1).map(|lower| (lower + upper) / 2.0),
    }
}

/// A dash where there is no figure.
pub(crate) fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(round: u32, p50_us: f64, refused: Option<&str>) -> Sample {
        Sample {
            round,
            requests: 1,
            failed: 0,
            complaint: None,
            cpu_us_per_request: 10.0,
            p50_us,
            p99_us: 0.0,
            p999_us: 0.0,
            resident_mib: 0.0,
            generator_busy: 0.0,
            refused: refused.map(str::to_owned),
        }
    }

    fn figures(samples: &[(&str, Sample)]) -> Figures {
        let mut all = BTreeMap::<_, Vec<_>>::new();
        for (name, sample) in samples {
            all.entry((*name).to_owned()).or_default().push(sample.clone());
        }
        Figures {
            scenario: Scenario::PairHttp1,
            rate: 1,
            connections: 1,
            seconds: 1,
            versions: BTreeMap::new(),
            configurations: BTreeMap::new(),
            samples: all,
            calls: BTreeMap::new(),
        }
    }

    #[test]
    fn what_is_added_is_against_the_direct_run_of_the_same_round() {
        let figures = figures(&[
            ("direct", sample(1, 100.0, None)),
            ("direct", sample(2, 300.0, None)),
            ("weft", sample(1, 150.0, None)),
            ("weft", sample(2, 350.0, None)),
        ]);
        assert_eq!(figures.added("weft", |sample| sample.p50_us), Some(50.0));
    }

    #[test]
    fn a_refused_sample_makes_no_ratio() {
        let figures = figures(&[("weft", sample(1, 1.0, None)), ("envoy", sample(1, 1.0, Some("late")))]);
        let mut text = String::new();
        figures.row(&mut text, "envoy").unwrap();
        assert!(text.starts_with("| envoy | - | - |"), "{text}");
    }
}
