//! `weft inject`: puts the pods of files into the mesh, without a webhook.
//!
//! It is the webhook's own function over each document. All or nothing: where one workload is refused, nothing is printed.

mod documents;
pub(crate) mod settings;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use weft_control_api::{CaView, path};
use weft_injector::InjectorSettings;
use weft_model::Namespace;

use crate::control::Control;
use crate::output::{self, Format};

/// `weft inject`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A YAML or JSON file with Kubernetes objects, - for standard input; may be given several times.
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    filename: Vec<PathBuf>,
    /// The namespace of objects that name none.
    #[arg(short, long, default_value_t = Namespace::default_namespace())]
    namespace: Namespace,
    /// SHA-256 of a root of the mesh, as weft ca status shows it; may be given several times. Without it the control
    /// plane is asked.
    #[arg(long, value_name = "HEX")]
    root_sha256: Vec<String>,
    /// A setting of injection, as in --set image=registry.example/proxy:1 or --set skip_outbound_ports=[25,587]. May be
    /// given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Runs it.
pub(crate) async fn run(args: Args, control: &Control, format: Format) -> Result<()> {
    let defaults = InjectorSettings { root_sha256: args.root_sha256, ..InjectorSettings::default() };
    let mut settings = checked(settings::read(&defaults, &args.set)?)?;
    if settings.root_sha256.is_empty() {
        settings.root_sha256 = roots(control).await?;
    }
    let (mut text, mut report) = (String::new(), Vec::new());
    for file in &args.filename {
        let injected = documents::inject(&read(file)?, &args.namespace, &settings, format)
            .with_context(|| file.display().to_string())?;
        if !text.is_empty() && !injected.text.starts_with("---") && format != Format::Json {
            text.push_str("---\n");
        }
        text.push_str(&injected.text);
        report.extend(injected.report);
    }
    for line in report {
        eprintln!("{}", output::printable(&line));
    }
    output::print(&text)
}

/// What a proxy's first connection has to show.
pub(crate) async fn roots(control: &Control) -> Result<Vec<String>> {
    let view: CaView = control
        .get(path::CA)
        .await
        .context("asking the control plane for the mesh's root (--root-sha256 spares it)")?;
    Ok(view.roots.into_iter().map(|root| root.sha256).collect())
}

/// The text of a file, of standard input where it is `-`.
pub(crate) fn read(file: &Path) -> Result<String> {
    if file.as_os_str() != "-" {
        return std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()));
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("reading standard input")?;
    Ok(text)
}

/// Fails with all that does not fit.
fn checked(settings: InjectorSettings) -> Result<InjectorSettings> {
    let problems = settings.problems();
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(settings)
}
