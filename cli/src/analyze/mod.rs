//! `weft analyze`: what is wrong or surprising in what users wrote, before or after it is applied.
//!
//! [`analyze`] is pure: a function of objects. What it decides by is the injector's and the registry's own code, so that
//! it can't say otherwise than they do. What reads objects is in `fetch.rs` and `files.rs`.

mod fetch;
mod files;
mod finding;
mod mesh;
mod objects;
mod services;
#[cfg(test)]
mod tests;
mod workloads;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use crate::cluster::{self, Cluster};
use crate::output::{self, Format, Style, Tone};
use finding::{Finding, Severity};
use objects::Objects;

/// `weft analyze`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 no errors and no warnings, 1 there are some, 2 not everything could be looked at"
)]
pub(crate) struct Args {
    /// The namespace [default: that of the context].
    #[arg(short, long, conflicts_with = "all_namespaces", value_parser = crate::kubernetes::namespace)]
    namespace: Option<String>,
    /// All namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// The kubeconfig [default: $KUBECONFIG, else ~/.kube/config].
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context in it [default: its current one].
    #[arg(long)]
    context: Option<String>,
    /// A YAML or JSON file with objects, which are looked at as if they were applied; - for standard input. May be given
    /// several times.
    #[arg(short, long = "filename", value_name = "FILE")]
    filename: Vec<PathBuf>,
    /// Ask no cluster: only the files. Namespaces that are not in them are taken as labelled.
    #[arg(long, requires = "filename", conflicts_with_all = ["all_namespaces", "kubeconfig", "context"])]
    offline: bool,
}

/// What is said.
#[derive(Debug, Serialize)]
struct Report<'a> {
    findings: &'a [Finding],
    /// What could not be read, and why.
    unread: &'a [String],
}

/// All that is wrong or surprising, the worst first.
fn analyze(objects: &Objects) -> Vec<Finding> {
    let makers = workloads::makers(objects);
    let mut found = workloads::analyze(objects, &makers);
    found.extend(services::analyze(objects, &makers));
    found.extend(mesh::analyze(objects, &makers));
    found.sort();
    found.dedup();
    found
}

/// Runs it.
pub(crate) async fn run(args: Args, format: Format, style: Style) -> Result<ExitCode> {
    weft_identity::install_crypto_provider();
    let mut unread = Vec::new();
    let mut namespace = args.namespace.clone();
    let mut objects = if args.offline {
        Objects { partial: true, ..Objects::default() }
    } else {
        let kubeconfig = cluster::kubeconfig(args.kubeconfig.clone())?;
        let cluster = Cluster::open(&kubeconfig, args.context.as_deref()).await?;
        if !args.all_namespaces {
            namespace.get_or_insert_with(|| cluster.namespace.clone());
        }
        fetch::objects(&cluster, namespace.as_deref(), &mut unread).await?
    };
    let of_nobody = namespace.as_deref().unwrap_or("default");
    for file in &args.filename {
        for object in files::read(file, of_nobody)? {
            objects.apply(object);
        }
    }
    let found = analyze(&objects);
    let text = match format {
        Format::Table => words(&found, style),
        format => output::document(&Report { findings: &found, unread: &unread }, format)?,
    };
    output::print(&text)?;
    for line in &unread {
        eprintln!("weft: not looked at: {}", output::printable(line));
    }
    let bad = found.iter().any(|finding| finding.severity != Severity::Info);
    Ok(match (unread.is_empty(), bad) {
        (false, _) => ExitCode::from(2),
        (true, true) => ExitCode::from(1),
        (true, false) => ExitCode::SUCCESS,
    })
}

/// For people: a paragraph each, and the sum.
fn words(found: &[Finding], style: Style) -> String {
    let mut text = String::new();
    for finding in found {
        let tone = match finding.severity {
            Severity::Error => Tone::Bad,
            Severity::Warning => Tone::Warning,
            Severity::Info => Tone::Plain,
        };
        let at = if finding.field.is_empty() { String::new() } else { format!(" {}", finding.field) };
        let head = format!("{} {}", style.paint(finding.severity.as_str(), tone), finding.code);
        let object = output::printable(&format!("{}{at}", finding.object));
        text.push_str(&format!("{head}  {object}\n  {}\n", output::printable(&finding.message)));
        if !finding.fix.is_empty() {
            text.push_str(&format!("  -> {}\n", output::printable(&finding.fix)));
        }
    }
    let count = |severity| found.iter().filter(|finding| finding.severity == severity).count();
    let sum = |severity, one: &str, many: &str| match count(severity) {
        1 => format!("1 {one}"),
        n => format!("{n} {many}"),
    };
    text.push_str(&format!(
        "{}, {}, {} to know\n",
        sum(Severity::Error, "error", "errors"),
        sum(Severity::Warning, "warning", "warnings"),
        sum(Severity::Info, "thing", "things")
    ));
    text
}
