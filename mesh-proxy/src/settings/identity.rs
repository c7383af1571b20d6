//! Settings of the way to the control plane and of the first proof of identity.
//!
//! The proxy needs one thing it trusts before it has anything: the root of the mesh, as a pin (in the join token or
//! here) or as a file. Without it, nothing is dialled.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use weft_model::{Namespace, RegistryId, ServiceName};

/// `[control]`: the control planes, in order of preference.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ControlSettings {
    /// `host:port`, or `https://host:port`. None: the proxy lives from its last known good state alone.
    pub(crate) addresses: Vec<String>,
    /// SHA-256 of the mesh's roots (DER), as hex: what the first connection must show. A join token carries it too.
    pub(crate) root_sha256: Vec<String>,
    /// A PEM file with the mesh's roots, instead of pins.
    pub(crate) bundle: Option<PathBuf>,
}

impl ControlSettings {
    /// The addresses as `host:port`.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        let bare = |address: &String| address.trim_start_matches("https://").trim_end_matches('/').to_owned();
        self.addresses.iter().map(bare).collect()
    }
}

/// `[identity]`: how the first certificate is obtained. Later ones are obtained with the current one.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct IdentitySettings {
    /// A single-use token of `weft token create`.
    pub(crate) join_token: Option<String>,
    /// A file that holds it.
    pub(crate) join_token_file: Option<PathBuf>,
    /// The local Consul agent as witness.
    pub(crate) consul: Option<ConsulAttestation>,
    /// The cluster's API server as witness, for a pod.
    pub(crate) kubernetes: Option<KubernetesAttestation>,
    /// The servers of a Nomad region as witness, for an allocation.
    pub(crate) nomad: Option<NomadAttestation>,
}

/// Where the join token comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JoinTokenSource {
    /// The token itself.
    Given(String),
    /// Read at every attempt: the file may appear or change later.
    File(PathBuf),
}

impl fmt::Display for JoinTokenSource {
    /// The setting, without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("identity.join_token"),
            Self::File(path) => write!(f, "identity.join_token_file {}", path.display()),
        }
    }
}

impl IdentitySettings {
    /// The join token's source, where one is set.
    pub(crate) fn join_token(&self) -> Option<JoinTokenSource> {
        let file = || self.join_token_file.clone().map(JoinTokenSource::File);
        self.join_token.clone().map(JoinTokenSource::Given).or_else(file)
    }

    /// How many ways to prove the identity are set; at most one makes sense.
    pub(super) fn ways(&self) -> usize {
        let witnesses = [self.consul.is_some(), self.kubernetes.is_some(), self.nomad.is_some()];
        witnesses.into_iter().chain([self.join_token().is_some()]).filter(|set| *set).count()
    }
}

/// `[identity.consul]`: proof of possession of the service's Consul Connect leaf. Nothing secret leaves this host.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConsulAttestation {
    /// The agent's HTTP address.
    #[serde(default = "local_agent")]
    pub(crate) address: String,
    /// The service whose leaf is shown.
    pub(crate) service: ServiceName,
    /// The control plane's name for this Consul: `consul/dc1`.
    pub(crate) registry: RegistryId,
    /// A file with an ACL token that has `service:write` on the service. Read at every attempt.
    #[serde(default)]
    pub(crate) token_file: Option<PathBuf>,
    /// PEM roots of the agent's HTTPS certificate.
    #[serde(default)]
    pub(crate) ca_file: Option<PathBuf>,
    /// The service's namespace, where the server has namespaces.
    #[serde(default)]
    pub(crate) namespace: Option<Namespace>,
}

/// `[identity.kubernetes]`: the pod's service account token, for the control plane alone.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KubernetesAttestation {
    /// The control plane's name for this cluster: `kubernetes/prod`.
    pub(crate) registry: RegistryId,
    /// The file into which the kubelet projects the token. Read at every attempt: the kubelet replaces it.
    #[serde(default = "projected_token")]
    pub(crate) token_file: PathBuf,
}

/// `[identity.nomad]`: the workload identity token of the allocation's proxy, for the control plane alone.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NomadAttestation {
    /// The control plane's name for this region: `nomad/prod`.
    pub(crate) registry: RegistryId,
    /// The file into which Nomad writes the token, below `NOMAD_SECRETS_DIR`. Read at every attempt: Nomad replaces it.
    #[serde(default = "secret_token")]
    pub(crate) token_file: PathBuf,
    /// The id of the node that this runs on: `${node.unique.id}` in a job file.
    pub(crate) node: String,
}

impl NomadAttestation {
    /// Whether `node` has the form of an id: what Nomad did not fill in has not.
    pub(super) fn has_node_id(&self) -> bool {
        let parts: Vec<&str> = self.node.split('-').collect();
        let hex = |part: &&str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
        parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) && parts.iter().all(hex)
    }
}

fn secret_token() -> PathBuf {
    PathBuf::from("/secrets/nomad_weft.jwt")
}

fn projected_token() -> PathBuf {
    PathBuf::from("/var/run/secrets/weft.dev/token")
}

fn local_agent() -> String {
    "http://127.0.0.1:8500".to_owned()
}
