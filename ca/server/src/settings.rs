//! Settings of the `weft-ca` binary: defaults, then a TOML file, then `WEFT_CA_…` variables, then flags. Unknown keys
//! are refused. Durations are written as `24h` or `10m`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use weft_model::{RegistryId, ServiceKey, SpiffeId, TrustDomain};
use weft_process::settings::{InvalidSettings, Sources, duration};
use weft_registry_consul::ConsulSettings;
use weft_registry_kubernetes::KubernetesSettings;
use weft_registry_nomad::NomadSettings;

use crate::authority::{AuthoritySettings, OwnPem};
use crate::limits::LimitSettings;
use crate::nomad::NomadTokenRules;
use crate::transport::ConnectionLimits;

/// Settings of a CA that serves alone.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Whose identities it issues.
    #[serde(default = "default_trust_domain")]
    pub trust_domain: TrustDomain,
    /// Where it listens.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Where its keys and tokens are.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// How long a leaf lives: `10s` to `7days`.
    #[serde(default = "default_leaf_ttl", deserialize_with = "duration")]
    pub leaf_ttl: Duration,
    /// PEM files of further roots for the trust bundle.
    #[serde(default)]
    pub extra_roots: Vec<PathBuf>,
    /// The user's own certificates instead of made ones.
    #[serde(default)]
    pub own_pem: Option<OwnPem>,
    /// Rate limits.
    #[serde(default)]
    pub limits: LimitSettings,
    /// Connections at once.
    #[serde(default)]
    pub connections: ConnectionLimits,
    /// Consul datacenters whose Connect leaves attest, by registry id: `[consul."consul/dc1"]`.
    #[serde(default)]
    pub consul: BTreeMap<RegistryId, ConsulAttestation>,
    /// Kubernetes clusters whose pods' tokens attest, by registry id: `[kubernetes."kubernetes/prod"]`.
    #[serde(default)]
    pub kubernetes: BTreeMap<RegistryId, KubernetesAttestation>,
    /// Nomad regions whose allocations' tokens attest, by registry id: `[nomad."nomad/prod"]`.
    #[serde(default)]
    pub nomad: BTreeMap<RegistryId, NomadAttestation>,
}

/// How one Consul datacenter attests.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsulAttestation {
    /// The datacenter's name.
    pub datacenter: String,
    /// How to reach its Consul.
    #[serde(default)]
    pub client: ConsulSettings,
    /// Services (`name` or `namespace/name`) that have another identity than `ns/<namespace>/sa/<name>`.
    #[serde(default)]
    pub identities: BTreeMap<ServiceKey, SpiffeId>,
}

/// How one Kubernetes cluster attests.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KubernetesAttestation {
    /// What its tokens must be meant for.
    #[serde(default = "default_audience")]
    pub audience: String,
    /// How to reach its API server; only `kubeconfig` and `context` matter.
    #[serde(default)]
    pub client: KubernetesSettings,
}

/// How one Nomad region attests.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NomadAttestation {
    /// What its tokens must be like.
    pub tokens: NomadTokenRules,
    /// How to reach its API, and which identities its jobs may have.
    pub client: NomadSettings,
}

impl Settings {
    /// Reads the settings. `flags` are what the command line sets: flag, key and value.
    ///
    /// # Errors
    /// Which key is wrong, where it came from and what was expected.
    pub fn load(file: Option<&Path>, flags: &[(&str, &str, String)]) -> Result<Self, InvalidSettings> {
        // The program takes WEFT_CA_CONFIG itself: it names the file.
        let sources = Sources::default().file(file)?.environment("WEFT_CA_", &["config"]);
        flags.iter().fold(sources, |sources, (flag, key, value)| sources.flag(flag, key, value)).read()
    }

    /// The part that the authority needs.
    pub fn authority(&self) -> AuthoritySettings {
        AuthoritySettings {
            trust_domain: self.trust_domain.clone(),
            state_dir: self.state_dir.clone(),
            leaf_ttl: self.leaf_ttl,
            own_pem: self.own_pem.clone(),
            extra_roots: self.extra_roots.clone(),
        }
    }
}

fn default_trust_domain() -> TrustDomain {
    #[expect(clippy::expect_used, reason = "a literal that a test parses")]
    "weft.local".parse().expect("a trust domain")
}

fn default_listen() -> SocketAddr {
    // Loopback: a CA that strangers can reach is a decision of its own.
    SocketAddr::from(([127, 0, 0, 1], 15010))
}

fn default_state_dir() -> PathBuf {
    PathBuf::from("/var/lib/weft-ca")
}

fn default_audience() -> String {
    DEFAULT_AUDIENCE.to_owned()
}

/// What a pod's or an allocation's token is meant for, unless it is set otherwise.
pub const DEFAULT_AUDIENCE: &str = "weft";

fn default_leaf_ttl() -> Duration {
    Duration::from_secs(86_400)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(toml: &str) -> Result<Settings, InvalidSettings> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), toml).unwrap();
        Settings::load(Some(file.path()), &[])
    }

    #[test]
    fn no_settings_are_the_defaults() {
        let settings = load("").unwrap();
        assert_eq!(settings.trust_domain.as_str(), "weft.local");
        assert_eq!(settings.leaf_ttl, Duration::from_secs(86_400));
        assert!(settings.listen.ip().is_loopback());
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "trust_domain = \"file.test\"\nleaf_ttl = \"1h\"").unwrap();
        let flags = [("--trust-domain", "trust_domain", "flag.test".to_owned())];
        let settings = Settings::load(Some(file.path()), &flags).unwrap();
        assert_eq!(settings.trust_domain.as_str(), "flag.test");
        assert_eq!(settings.leaf_ttl, Duration::from_secs(3600));
    }

    #[test]
    fn unknown_keys_and_bad_values_are_refused_by_name() {
        for (bad, word) in [
            ("trust_domian = \"a\"", "trust_domian"),
            ("leaf_ttl = \"soon\"", "leaf_ttl"),
            ("trust_domain = \"UPPER\"", "lower-case"),
            ("[limits.per_address]\nper_second = 1\nbrust = 2", "brust"),
            ("[consul.\"consul/dc1\"]\ndatacentre = \"dc1\"", "datacentre"),
            ("[consul.dc1]\ndatacenter = \"dc1\"", "dc1"),
            ("[kubernetes.\"kubernetes/prod\"]\naudiences = \"a\"", "audiences"),
            ("[nomad.\"nomad/prod\".tokens]\nmax_life = \"1h\"", "max_life"),
            ("[nomad.\"nomad/prod\".client]\nadress = \"x\"", "adress"),
        ] {
            let error = load(bad).expect_err(bad).to_string();
            assert!(error.contains(word), "{bad}: {error}");
        }
    }

    #[test]
    fn a_kubernetes_is_set_up_by_its_registry_id() {
        let settings =
            load("[kubernetes.\"kubernetes/prod\"]\nclient = { kubeconfig = \"/etc/k\" }").unwrap();
        let (id, kubernetes) = settings.kubernetes.first_key_value().unwrap();
        assert_eq!((id.as_str(), kubernetes.audience.as_str()), ("kubernetes/prod", "weft"));
        assert_eq!(kubernetes.client.kubeconfig.as_deref(), Some(Path::new("/etc/k")));
    }

    #[test]
    fn a_nomad_is_set_up_by_its_registry_id() {
        let settings = load(
            "[nomad.\"nomad/prod\"]\ntokens = { max_lifetime = \"1h\" }\nclient = { address = \"https://nomad:4646\" }",
        )
        .unwrap();
        let (id, NomadAttestation { tokens, client }) = settings.nomad.first_key_value().unwrap();
        assert_eq!((id.as_str(), tokens.audience.as_str()), ("nomad/prod", "weft"));
        assert_eq!(tokens.max_lifetime, Duration::from_secs(3600));
        assert_eq!(client.address, "https://nomad:4646");
    }

    #[test]
    fn a_consul_is_set_up_by_its_registry_id() {
        let settings = load(
            "[consul.\"consul/dc1\"]\ndatacenter = \"dc1\"\nclient = { address = \"http://127.0.0.1:8500\" }\n\
             identities = { web = \"spiffe://weft.local/ns/shop/sa/web\" }",
        );
        let settings = settings.unwrap();
        let (id, consul) = settings.consul.first_key_value().unwrap();
        assert_eq!((id.as_str(), consul.identities.len()), ("consul/dc1", 1));
    }
}
