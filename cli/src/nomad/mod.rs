//! `weft nomad`: jobs with their sidecars, and what a Nomad lacks for them.
//!
//! HCL is read by the Nomad server's own parser, so a job file means here what it means to `nomad job run`. Which sidecar a
//! job gets is decided by `weft-nomad-injector`, which does no IO.

mod doctor;
mod injected;
mod place;
mod plan;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use weft_nomad_injector::stanza;

use crate::control::Control;
use crate::output::{self, Format, Style};
use injected::{Given, Source};
use place::Place;

/// `weft nomad`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Give the groups of a job that ask for it their sidecars, and print the job as JSON.
    Inject {
        #[command(flatten)]
        source: Source,
        /// Print only what is added, as HCL to be pasted into one's own job file.
        #[arg(long)]
        print_stanza: bool,
    },
    /// The same, and submit the job.
    Run {
        #[command(flatten)]
        source: Source,
    },
    /// The same, and show what submitting it would change.
    Plan {
        #[command(flatten)]
        source: Source,
    },
    /// Say what this Nomad lacks for the mesh, or what a job lacks in it, and what mends it.
    Doctor {
        /// The job, in HCL or JSON; without it the cluster alone is looked at.
        file: Option<JobFile>,
        #[command(flatten)]
        given: Given,
    },
}

/// Runs it.
pub(crate) async fn run(args: Args, control: &Control, format: Format, style: Style) -> Result<ExitCode> {
    let nomad = args.place.client()?;
    let namespace = args.place.namespace.as_str();
    match args.command {
        Command::Inject { source, print_stanza } => {
            let injection = injected::read(&source.file, &source.given, &nomad, namespace, control).await?;
            output::print(&match print_stanza {
                true => stanza(&injection),
                false => format!("{}\n", serde_json::to_string_pretty(&json!({"Job": injection.job}))?),
            })
        }
        Command::Run { source } => {
            let injection = injected::read(&source.file, &source.given, &nomad, namespace, control).await?;
            let query = [("namespace", namespace)];
            let answer: Value = nomad
                .post("submitting the job", &["v1", "jobs"], &query, &json!({"Job": injection.job}))
                .await?;
            output::print(&submitted(&injection.job, &answer))
        }
        Command::Plan { source } => {
            let injection = injected::read(&source.file, &source.given, &nomad, namespace, control).await?;
            let id = injection.job["ID"].as_str().context("the job has no ID")?.to_owned();
            let body = json!({"Job": injection.job, "Diff": true});
            let query = [("namespace", namespace)];
            let answer: Value =
                nomad.post("planning the job", &["v1", "job", &id, "plan"], &query, &body).await?;
            output::print(&plan::shown(&answer))
        }
        Command::Doctor { file, given } => {
            let job = file.as_deref().map(|file| (file, &given));
            return doctor::run(&nomad, namespace, job, control, format, style).await;
        }
    }?;
    Ok(ExitCode::SUCCESS)
}

fn submitted(job: &Value, answer: &Value) -> String {
    let mut text = format!("job {} is submitted", job["ID"].as_str().unwrap_or_default());
    if let Some(evaluation) = answer["EvalID"].as_str().filter(|id| !id.is_empty()) {
        text.push_str(&format!("; nomad eval status {evaluation} says how it goes on"));
    }
    text.push('\n');
    if let Some(warnings) = answer["Warnings"].as_str().filter(|warnings| !warnings.is_empty()) {
        text.push_str(&warned(warnings));
    }
    text
}

/// Nomad's own warnings, a line each.
fn warned(warnings: &str) -> String {
    let lines = warnings.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| format!("Nomad warns: {}\n", output::printable(line))).collect()
}

/// The path of a job file; `-` is standard input.
pub(crate) type JobFile = PathBuf;
