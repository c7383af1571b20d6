//! From a job file to the job with its sidecars.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use weft_nomad_injector::{Injection, NomadInjectorSettings, inject};
use weft_registry_nomad::NomadClient;

use super::JobFile;
use crate::control::Control;
use crate::inject::{read as read_file, roots, settings};
use crate::output;

/// Which job, and with which settings.
#[derive(Debug, clap::Args)]
pub(crate) struct Source {
    /// The job, in HCL or JSON; - for standard input.
    pub(super) file: JobFile,
    #[command(flatten)]
    pub(super) given: Given,
}

/// What is given for a job beside its file.
#[derive(Debug, clap::Args)]
pub(crate) struct Given {
    /// A variable of the job file, as NAME=VALUE; may be given several times.
    #[arg(long, value_name = "NAME=VALUE")]
    var: Vec<String>,
    /// A file with variables of the job file, in HCL; may be given several times.
    #[arg(long, value_name = "FILE")]
    var_file: Vec<JobFile>,
    /// SHA-256 of a root of the mesh, as weft ca status shows it; may be given several times. Without it the control
    /// plane is asked.
    #[arg(long, value_name = "HEX")]
    root_sha256: Vec<String>,
    /// A setting of injection, as in --set driver=raw_exec or --set control=[10.0.0.5:15010]; may be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// The job with its sidecars. What its owner should look at goes to standard error.
pub(crate) async fn read(
    file: &Path,
    given: &Given,
    nomad: &NomadClient,
    namespace: &str,
    control: &Control,
) -> Result<Injection> {
    let defaults =
        NomadInjectorSettings { root_sha256: given.root_sha256.clone(), ..NomadInjectorSettings::default() };
    let mut settings = settings::read(&defaults, &given.set)?;
    if settings.root_sha256.is_empty() {
        settings.root_sha256 = roots(control).await?;
    }
    let job = job(file, given, nomad, namespace).await.with_context(|| file.display().to_string())?;
    let injection = inject(&job, &settings).with_context(|| file.display().to_string())?;
    for warning in &injection.warnings {
        eprintln!("weft: {}", output::printable(warning));
    }
    eprintln!("weft: sidecars for {}", injection.groups.join(", "));
    Ok(injection)
}

async fn job(file: &Path, given: &Given, nomad: &NomadClient, namespace: &str) -> Result<Value> {
    let text = read_file(file)?;
    let mut job = match text.trim_start().starts_with('{') {
        true => of_json(&text)?,
        false => parse(given, nomad, &text).await?,
    };
    if job["Namespace"].as_str().is_none_or(str::is_empty) || job["Namespace"] == json!("default") {
        job["Namespace"] = json!(namespace);
    }
    Ok(job)
}

/// As `nomad job run -json` takes it: the job, alone or in `Job`.
fn of_json(text: &str) -> Result<Value> {
    let mut value: Value = serde_json::from_str(text).context("it is no JSON")?;
    if let Some(job) = value.get_mut("Job") {
        return Ok(job.take());
    }
    if value.get("TaskGroups").is_none() {
        bail!("it is JSON, but no job: expected TaskGroups, or Job with them");
    }
    Ok(value)
}

/// By the server, which alone knows what its HCL means.
async fn parse(given: &Given, nomad: &NomadClient, hcl: &str) -> Result<Value> {
    let mut variables = String::new();
    for file in &given.var_file {
        variables.push_str(&read_file(file)?);
        variables.push('\n');
    }
    for variable in &given.var {
        let Some((name, value)) = variable.split_once('=') else {
            bail!("--var {variable}: expected NAME=VALUE");
        };
        // Lists, numbers and the like are written as they are in HCL; everything else is a text.
        let plain = serde_json::from_str::<Value>(value).is_ok();
        let value = if plain { value.to_owned() } else { serde_json::to_string(value)? };
        variables.push_str(&format!("{name} = {value}\n"));
    }
    let body = json!({"JobHCL": hcl, "Variables": variables});
    Ok(nomad.post("Nomad's parser", &["v1", "jobs", "parse"], &[], &body).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_a_job_alone_or_wrapped() {
        assert_eq!(of_json(r#"{"Job": {"ID": "a"}}"#).unwrap(), json!({"ID": "a"}));
        assert_eq!(of_json(r#"{"TaskGroups": []}"#).unwrap(), json!({"TaskGroups": []}));
        assert!(of_json(r#"{"a": 1}"#).unwrap_err().to_string().contains("TaskGroups"));
    }
}
