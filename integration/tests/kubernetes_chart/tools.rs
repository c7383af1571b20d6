//! Helm, what it makes of the chart, and our own programs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;
use weft_integration::{Process, ran_on, skipped_on};

pub(crate) const HELM: &str = "Helm 4.3.1";
/// Each with the values that it is the chart of.
pub(crate) const MANIFESTS: [(&str, &[&str]); 2] = [
    ("k8s/manifests/weft.yaml", &["createNamespace=true"]),
    ("k8s/manifests/weft-cni.yaml", &["createNamespace=true", "cni.enabled=true"]),
];

pub(crate) fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it is in the checkout").to_owned()
}

/// Helm, where there is one; else that is said.
pub(crate) fn helm(what: &str) -> Option<Helm> {
    match std::env::var_os("WEFT_HELM") {
        Some(path) => {
            ran_on(HELM, what);
            Some(Helm { program: path.into(), home: tempfile::tempdir().expect("a temporary directory") })
        }
        None => {
            skipped_on(HELM, what);
            None
        }
    }
}

pub(crate) struct Helm {
    program: PathBuf,
    /// Where it keeps what it keeps.
    home: tempfile::TempDir,
}

impl Helm {
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(variable, self.home.path().join(variable));
        }
        command.current_dir(top()).stdin(Stdio::null());
        command
    }

    pub(crate) async fn run(&self, words: &[&str]) -> Result<String> {
        let output = self.command().args(words).output().await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ensure!(
            output.status.success(),
            "helm {}: {}{}",
            words.join(" "),
            text(&output.stdout),
            text(&output.stderr)
        );
        Ok(text(&output.stdout))
    }

    /// The chart with values `key=JSON`.
    pub(crate) async fn template(&self, namespace: &str, values: &[&str]) -> Result<String> {
        let mut words = vec!["template", "weft", "k8s/chart", "--namespace", namespace];
        words.extend(values.iter().flat_map(|value| ["--set-json", *value]));
        self.run(&words).await
    }

    pub(crate) async fn objects(&self, values: &[&str]) -> Result<Objects> {
        Objects::read(&self.template("weft-system", values).await?)
    }
}

/// Objects by `Kind/name`.
pub(crate) struct Objects(pub(crate) BTreeMap<String, Value>);

impl Objects {
    pub(crate) fn read(text: &str) -> Result<Self> {
        let all: Vec<Value> = serde_saphyr::from_multiple(text)?;
        let name = |object: &Value| {
            Some(format!("{}/{}", object["kind"].as_str()?, object["metadata"]["name"].as_str()?))
        };
        Ok(Self(all.into_iter().filter_map(|object| Some((name(&object)?, object))).collect()))
    }

    pub(crate) fn get(&self, name: &str) -> Result<&Value> {
        self.0.get(name).with_context(|| format!("there is no {name}"))
    }

    pub(crate) fn control_toml(&self) -> Result<&str> {
        self.get("ConfigMap/weft-control")?["data"]["control.toml"].as_str().context("control.toml is text")
    }

    pub(crate) fn pod(&self) -> Result<&Value> {
        Ok(&self.get("Deployment/weft-control")?["spec"]["template"]["spec"])
    }
}

/// Runs one of ours to its end.
pub(crate) async fn ours(name: &str, words: &[&str]) -> Result<std::process::Output> {
    Ok(Command::new(Process::program(name)?).args(words).stdin(Stdio::null()).output().await?)
}
