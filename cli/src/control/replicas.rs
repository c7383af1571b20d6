//! The control planes in a Kubernetes cluster: which pods they are, and the way to the admin port of one.
//!
//! The port listens inside the pod only; the way is the API server's, by the rights of the user's kubeconfig (`list` on pods and
//! `create` on `pods/portforward` in that namespace), as with kubectl.

use anyhow::{Result, bail};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::cluster::{self, Cluster, ClusterError};

/// The control planes that run there.
pub(super) struct Replicas {
    cluster: Cluster,
    namespace: String,
    /// At least one, sorted.
    pods: Vec<String>,
}

impl Replicas {
    /// Asks which there are.
    pub(super) async fn open(namespace: &str) -> Result<Self> {
        weft_identity::install_crypto_provider();
        let cluster = Cluster::open(&cluster::kubeconfig(None)?, None).await?;
        let found = cluster.list(&format!("/api/v1/namespaces/{namespace}/pods"), "Pod").await?;
        let runs = |pod: &&serde_json::Value| {
            pod["metadata"]["labels"]["app.kubernetes.io/name"] == "weft-control"
                && pod["metadata"]["deletionTimestamp"].is_null()
                && pod["status"]["phase"] == "Running"
        };
        let names = found.iter().filter(runs).filter_map(|pod| pod["metadata"]["name"].as_str());
        let mut pods: Vec<String> = names.map(str::to_owned).collect();
        pods.sort();
        if pods.is_empty() {
            bail!(
                "none runs in namespace {namespace} of {}: --control kubernetes:NAMESPACE names another, and \
                 `weft install kubernetes` brings one",
                cluster.server
            );
        }
        Ok(Self { cluster, namespace: namespace.to_owned(), pods })
    }

    /// Their pods' names.
    pub(super) fn pods(&self) -> impl Iterator<Item = &str> {
        self.pods.iter().map(String::as_str)
    }

    /// A connection to the admin port of one.
    pub(super) async fn stream(
        &self,
        pod: &str,
    ) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<>, ClusterError> {
        self.cluster.stream(&self.namespace, pod, PORT).await
    }
}

/// Where the chart has `admin.listen`.
const PORT: u16 = 15014;
