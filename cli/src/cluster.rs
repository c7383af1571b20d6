//! A Kubernetes cluster, as commands read and write it: objects as JSON, by their paths at the API server.
//!
//! The way there is the registry's own: the same kubeconfig serves a command and a control plane. Every request has an
//! end. What objects mean is not known here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use http::{Method, Request};
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::config::Kubeconfig;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use weft_registry::causes;
use weft_registry_kubernetes::{KubernetesSettings, connect};

/// Why the API server did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    /// It answered so.
    #[error("{what}: {message}")]
    Refused { what: String, status: u16, message: String },
    /// There was no answer that can be used.
    #[error("{what}: {reason}")]
    Unreachable { what: String, reason: String },
}

impl ClusterError {
    /// The status of the answer.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::Unreachable { .. } => None,
        }
    }
}

/// A cluster.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: kube::Client,
    /// The context in the kubeconfig.
    pub(crate) context: String,
    /// The API server's URL.
    pub(crate) server: String,
    /// The namespace that the context names.
    pub(crate) namespace: String,
}

impl Cluster {
    /// The cluster of a kubeconfig's context; of its current one where none is named. Sends nothing yet.
    pub(crate) async fn open(kubeconfig: &Path, context: Option<&str>) -> Result<Self> {
        let about = || format!("kubeconfig {}", kubeconfig.display());
        // Its own words have the cause in them already.
        let read = Kubeconfig::read_from(kubeconfig).map_err(|error| anyhow!("{}: {error}", about()))?;
        let context = context.map(str::to_owned).or(read.current_context).filter(|name| !name.is_empty());
        let context = context.with_context(|| format!("{}: it has no current-context", about()))?;
        let names: Vec<String> = read.contexts.iter().map(|named| named.name.clone()).collect();
        let named = read.contexts.into_iter().find(|named| named.name == context).and_then(|c| c.context);
        let unknown = || format!("{}: no context {context:?}; there are {}", about(), names.join(", "));
        let named = named.with_context(unknown)?;
        let settings = KubernetesSettings {
            kubeconfig: Some(kubeconfig.to_owned()),
            context: Some(context.clone()),
            ..KubernetesSettings::default()
        };
        let client = connect(&settings).await?;
        let cluster = read.clusters.into_iter().find(|cluster| cluster.name == named.cluster);
        let server = cluster.and_then(|cluster| cluster.cluster?.server).unwrap_or_default();
        Ok(Self { namespace: client.default_namespace().to_owned(), client, context, server })
    }

    /// A stream to a port of a pod, by the API server, as `kubectl port-forward` has one.
    pub(crate) async fn stream(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
    ) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<>, ClusterError> {
        let what = format!("port-forward {namespace}/{pod}");
        let unreachable = |reason: String| ClusterError::Unreachable { what: what.clone(), reason };
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let forwarded = pods.portforward(pod, &[port]).await;
        let mut forwarded = forwarded.map_err(|error| unreachable(causes(&error).to_string()))?;
        forwarded.take_stream(port).ok_or_else(|| unreachable(format!("no stream to port {port}")))
    }

    /// GET: an object, or a list's first page.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, ClusterError> {
        self.json(Method::GET, path, "application/json", None).await
    }

    /// All objects of a list, page by page, each with the kind that lists leave out.
    pub(crate) async fn list(&self, path: &str, kind: &str) -> Result<Vec<Value>, ClusterError> {
        let (mut objects, mut next) = (Vec::new(), String::new());
        loop {
            let more = if next.is_empty() { String::new() } else { format!("&continue={next}") };
            let mut page = self.get(&format!("{path}?limit={PAGE}{more}")).await?;
            let items = page["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
            objects.extend(items.into_iter().map(|mut item| {
                item["kind"] = Value::from(kind);
                item
            }));
            next = page.pointer("/metadata/continue").and_then(Value::as_str).unwrap_or_default().to_owned();
            if next.is_empty() {
                return Ok(objects);
            }
        }
    }

    /// POST to a list: makes the object.
    pub(crate) async fn create(&self, path: &str, object: &Value) -> Result<Value, ClusterError> {
        self.json(Method::POST, path, "application/json", Some(object)).await
    }

    /// A merge patch (RFC 7386).
    pub(crate) async fn patch(&self, path: &str, patch: &Value) -> Result<Value, ClusterError> {
        self.json(Method::PATCH, path, "application/merge-patch+json", Some(patch)).await
    }

    /// DELETE: an object, or all of a list.
    pub(crate) async fn delete(&self, path: &str) -> Result<Value, ClusterError> {
        self.json(Method::DELETE, path, "application/json", None).await
    }

    async fn json(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: Option<&Value>,
    ) -> Result<Value, ClusterError> {
        let text = self.text(method, path, kind, body).await?;
        serde_json::from_str(&text).map_err(|error| ClusterError::Unreachable {
            what: path.to_owned(),
            reason: format!("it is not what Kubernetes answers: {error}"),
        })
    }

    /// The answer as text, such as a log.
    pub(crate) async fn text(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: Option<&Value>,
    ) -> Result<String, ClusterError> {
        let what = format!("{method} {}", path.split('?').next().unwrap_or(path));
        let unreachable = |reason: String| ClusterError::Unreachable { what: what.clone(), reason };
        let body = body.map(Value::to_string).unwrap_or_default().into_bytes();
        let request = Request::builder().method(method).uri(path).header("content-type", kind).body(body);
        let request = request.map_err(|error| unreachable(error.to_string()))?;
        match tokio::time::timeout(PATIENCE, self.client.request_text(request)).await {
            Err(_) => Err(unreachable(format!("no answer from {} in {} s", self.server, PATIENCE.as_secs()))),
            Ok(Ok(text)) => Ok(text),
            Ok(Err(kube::Error::Api(said))) => {
                Err(ClusterError::Refused { what, status: said.code, message: said.message.clone() })
            }
            Ok(Err(error)) => Err(unreachable(format!("{}: {}", self.server, causes(&error)))),
        }
    }
}

/// The kubeconfig that kubectl would take: the given one, else `$KUBECONFIG`, else `~/.kube/config`.
pub(crate) fn kubeconfig(given: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(given) = given {
        return Ok(given);
    }
    let set = std::env::var_os("KUBECONFIG").filter(|paths| !paths.is_empty());
    let Some(set) = set else {
        let home = std::env::var_os("HOME").context("no --kubeconfig, no KUBECONFIG and no HOME")?;
        return Ok(PathBuf::from(home).join(".kube/config"));
    };
    let mut paths: Vec<PathBuf> = std::env::split_paths(&set).filter(|path| path.exists()).collect();
    match (paths.pop(), paths.is_empty()) {
        (Some(path), true) => Ok(path),
        (None, _) => bail!("KUBECONFIG names no file that is there; give one with --kubeconfig"),
        (Some(_), false) => bail!("KUBECONFIG names several files; give one with --kubeconfig"),
    }
}

/// Objects a page: what kubectl asks for.
const PAGE: u32 = 500;
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(30);
