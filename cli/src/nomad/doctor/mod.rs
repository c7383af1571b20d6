//! `weft nomad doctor`: what a Nomad, or a job in it, lacks for the mesh, each with what mends it.
//!
//! It only reads. What can't be known from outside a node (its users, its kernel) it does not guess.

mod cluster;
mod job;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use weft_registry_nomad::NomadClient;

use super::injected::Given;
use crate::control::Control;
use crate::output::{self, Format, Style, Tone};

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    state: State,
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Good,
    Warning,
    Bad,
}

impl Finding {
    fn good(what: impl Into<String>) -> Self {
        Self { state: State::Good, what: what.into(), fix: None }
    }

    fn warning(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { state: State::Warning, what: what.into(), fix: Some(fix.into()) }
    }

    fn bad(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { state: State::Bad, what: what.into(), fix: Some(fix.into()) }
    }
}

/// Looks at the cluster, and at a job where one is given.
pub(super) async fn run(
    nomad: &NomadClient,
    namespace: &str,
    job: Option<(&Path, &Given)>,
    control: &Control,
    format: Format,
    style: Style,
) -> Result<ExitCode> {
    let (mut findings, nodes) = cluster::findings(nomad, namespace, control).await;
    if let Some((file, given)) = job {
        findings.extend(job::findings(file, given, nomad, namespace, control, &nodes).await);
    }
    output::print(&match format {
        Format::Table => shown(&findings, style),
        _ => output::document(&findings, format)?,
    })?;
    let bad = findings.iter().any(|finding| finding.state == State::Bad);
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A line for each, and below it what mends it.
fn shown(findings: &[Finding], style: Style) -> String {
    let mut text = String::new();
    for Finding { state, what, fix } in findings {
        let (mark, tone) = match state {
            State::Good => ("ok     ", Tone::Good),
            State::Warning => ("warning", Tone::Warning),
            State::Bad => ("missing", Tone::Bad),
        };
        text.push_str(&format!("{}   {}\n", style.paint(mark, tone), output::printable(what)));
        if let Some(fix) = fix {
            text.push_str(&format!("          {}\n", output::printable(fix)));
        }
    }
    text
}
