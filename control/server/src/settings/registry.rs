//! `[[registry]]`: one source of services and workloads.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use weft_model::{Mapping, RegistryId};
use weft_registry::GuardSettings;
use weft_registry_consul::ConsulSettings;
use weft_registry_kubernetes::KubernetesSettings;
use weft_registry_nomad::NomadSettings;

/// One registry. Its id's kind says which of the sections it needs.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RegistrySettings {
    /// `kind/name`: `file/local`, `consul/dc1`.
    pub(crate) id: RegistryId,
    /// Readiness waits for its first listing without a deadline.
    #[serde(default)]
    pub(crate) required: bool,
    /// Of a `file/…` registry: the directory of YAML files.
    #[serde(default)]
    pub(crate) directory: Option<PathBuf>,
    /// Of a `consul/…` registry.
    #[serde(default)]
    pub(crate) consul: Option<ConsulSettings>,
    /// Of a `kubernetes/…` registry.
    #[serde(default)]
    pub(crate) kubernetes: Option<KubernetesSettings>,
    /// Of a `nomad/…` registry.
    #[serde(default)]
    pub(crate) nomad: Option<NomadSettings>,
    /// How its services are named in the mesh.
    #[serde(default)]
    pub(crate) mapping: Mapping,
    /// When a listing that loses much is not believed at once.
    #[serde(default)]
    pub(crate) guard: GuardOptions,
}

/// `[registry.guard]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct GuardOptions {
    /// Whether any listing is held.
    pub(crate) enabled: bool,
    /// One that drops more than this share of the registry's workloads is.
    pub(crate) fraction: f64,
    /// A second read at least this much later confirms it.
    #[serde(deserialize_with = "weft_process::settings::duration")]
    pub(crate) confirm_after: Duration,
    /// The same where nothing is left; never less than the other.
    #[serde(deserialize_with = "weft_process::settings::duration")]
    pub(crate) confirm_empty_after: Duration,
}

impl Default for GuardOptions {
    fn default() -> Self {
        let GuardSettings { enabled, fraction, confirm_after, confirm_empty_after } =
            GuardSettings::default();
        Self { enabled, fraction, confirm_after, confirm_empty_after }
    }
}

impl From<&GuardOptions> for GuardSettings {
    fn from(options: &GuardOptions) -> Self {
        let &GuardOptions { enabled, fraction, confirm_after, confirm_empty_after } = options;
        Self { enabled, fraction, confirm_after, confirm_empty_after }
    }
}
