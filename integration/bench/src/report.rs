//! One report of a run: the machine, what was asked for and what it came to, then a section for each scenario; as JSON and
//! as Markdown.
//!
//! A scenario makes its [`Section`] itself: it knows its table. What failed, or was refused because the generator was the
//! bottleneck, is part of the section, so that a lost row stays in the table; the run then ends with an error.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use crate::row::{self, Row};

/// What one scenario found.
#[derive(Debug, Serialize)]
pub(crate) struct Section {
    /// Its name, as a subcommand or option calls it.
    pub(crate) name: &'static str,
    /// What it says to what was asked for.
    pub(crate) rows: Vec<Row>,
    /// Its heading, what was done, and its details.
    #[serde(skip)]
    pub(crate) markdown: String,
    /// The same with all samples, where they are not the rows' own.
    pub(crate) figures: Value,
    /// Answers that were wrong or missing: the figures can't be used.
    pub(crate) failures: Vec<String>,
}

/// All sections of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: String,
    sections: Vec<Section>,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self { machine: machine(), sections: Vec::new() }
    }

    /// Adds a section and prints it: a long run shows what it has.
    pub(crate) fn add(&mut self, section: Section) {
        println!("\n{}", section.markdown);
        self.sections.push(section);
    }

    /// Writes `benchmarks.json` and `benchmarks.md`, and fails if anything failed.
    pub(crate) fn write(&self, directory: &Path) -> Result<()> {
        std::fs::create_dir_all(directory)?;
        std::fs::write(directory.join("benchmarks.json"), serde_json::to_string_pretty(self)?)?;
        std::fs::write(directory.join("benchmarks.md"), self.markdown()?)?;
        println!("written to {}", directory.display());
        let failures: Vec<&str> =
            self.sections.iter().flat_map(|section| &section.failures).map(String::as_str).collect();
        anyhow::ensure!(failures.is_empty(), "{}", failures.join("; "));
        Ok(())
    }

    fn markdown(&self) -> Result<String> {
        let rows = self.sections.iter().flat_map(|section| &section.rows);
        let mut text = format!("{}\n\n{}", self.machine, row::markdown(rows)?);
        for section in &self.sections {
            write!(text, "\n{}", section.markdown)?;
        }
        Ok(text)
    }
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, m)| m.to_owned()));
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!(
        "{}, {cores} cores (load on core 0, what is measured on core 1), kernel {}",
        model.unwrap_or_default(),
        kernel.trim()
    )
}
