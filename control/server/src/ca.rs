//! The embedded certificate authority: its settings, and how its parts are put together.
//!
//! Keys and tokens are in `ca` below the state directory. This process's own certificate is issued here too; what
//! proxies see of the CA is `weft_ca::CaService` on the same port as discovery.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use weft_ca::{
    Authority, AuthoritySettings, CaService, CaServiceParts, ConsulAttestor, ConsulDatacenter, JoinTokens,
    KubernetesAttestor, KubernetesCluster, LimitSettings, NomadAttestor, NomadRegion, NomadTokenRules,
    OwnPem, SharedTokens,
};
use weft_identity::{CONTROL_PLANE_PATH, SvidSource, TrustBundles};
use weft_model::{RegistryId, RegistryKind, ServiceKey, SpiffeId};
use weft_registry_consul::ConsulClient;
use weft_registry_kubernetes::attest::TokenReviews;
use weft_registry_nomad::attest::NomadWitness;

use crate::ca_secret::SecretSettings;
use crate::settings::{RegistrySettings, Settings};

/// `[ca]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CaSettings {
    /// How long a leaf lives.
    #[serde(deserialize_with = "weft_process::settings::duration")]
    pub(crate) leaf_ttl: Duration,
    /// The user's own certificates (PEM files `roots`, `chain`, `key`) instead of made ones.
    pub(crate) own_pem: Option<OwnPem>,
    /// Keeps the root in a Kubernetes Secret, which several control planes share.
    pub(crate) secret: Option<SecretSettings>,
    /// PEM files of more roots to trust, while one replaces another.
    pub(crate) extra_roots: Vec<PathBuf>,
    /// How often certificates may be asked for.
    pub(crate) limits: LimitSettings,
    /// Attestation by Consul Connect leaves, by registry: absent registries attest nobody.
    pub(crate) consul: BTreeMap<RegistryId, ConsulAttestation>,
    /// Attestation by pods' tokens, by registry: absent registries attest nobody.
    pub(crate) kubernetes: BTreeMap<RegistryId, KubernetesAttestation>,
    /// Attestation by allocations' tokens, by registry: absent registries attest nobody.
    pub(crate) nomad: BTreeMap<RegistryId, NomadTokenRules>,
}

/// `[ca.consul."consul/dc1"]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ConsulAttestation {
    /// The datacenter that leaves must be of; default: the registry's datacenter, or else the registry's name.
    pub(crate) datacenter: Option<String>,
    /// Services with another identity than `ns/<namespace>/sa/<service>`.
    pub(crate) identities: BTreeMap<ServiceKey, SpiffeId>,
}

/// `[ca.kubernetes."kubernetes/prod"]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct KubernetesAttestation {
    /// What the tokens must be meant for.
    pub(crate) audience: String,
}

impl Default for KubernetesAttestation {
    fn default() -> Self {
        Self { audience: weft_ca::settings::DEFAULT_AUDIENCE.to_owned() }
    }
}

impl Default for CaSettings {
    fn default() -> Self {
        Self {
            leaf_ttl: Duration::from_hours(24),
            own_pem: None,
            secret: None,
            extra_roots: Vec::new(),
            limits: LimitSettings::default(),
            consul: BTreeMap::new(),
            kubernetes: BTreeMap::new(),
            nomad: BTreeMap::new(),
        }
    }
}

/// The authority with all that hangs on it.
pub(crate) struct Ca {
    pub(crate) authority: Arc<Authority>,
    pub(crate) tokens: Arc<JoinTokens>,
    /// This process's own certificate, and whom it trusts.
    pub(crate) identity: SvidSource,
}

impl Ca {
    /// Opens the authority, making keys on first start, and issues this process's own certificate.
    pub(crate) fn open(settings: &Settings) -> Result<Self> {
        let now = SystemTime::now();
        let authority = Authority::open(&authority_settings(settings), now);
        let authority = authority.context("opening the certificate authority")?;
        let pin = authority.root_pin().context("the certificate authority has no root")?;
        let tokens =
            JoinTokens::open(&settings.state_dir.join("ca"), pin).context("opening the join tokens")?;
        let identity = SvidSource::new();
        let own = authority.issue_own(CONTROL_PLANE_PATH, now).context("issuing the own certificate")?;
        identity.set(own, TrustBundles::from_iter([authority.bundle().clone()]));
        Ok(Self { authority: Arc::new(authority), tokens: Arc::new(tokens), identity })
    }

    /// What proxies see of it.
    pub(crate) fn service(
        &self,
        attestors: Attestors,
        shared_tokens: Option<Arc<dyn SharedTokens>>,
        limits: LimitSettings,
    ) -> CaService {
        let (authority, tokens) = (Arc::clone(&self.authority), Arc::clone(&self.tokens));
        let Attestors { consul, kubernetes, nomad } = attestors;
        let kubernetes = Some(kubernetes);
        CaService::new(CaServiceParts { authority, tokens, shared_tokens, consul, kubernetes, nomad, limits })
    }
}

/// The authority's part of the settings.
pub(crate) fn authority_settings(settings: &Settings) -> AuthoritySettings {
    AuthoritySettings {
        leaf_ttl: settings.ca.leaf_ttl,
        own_pem: settings.ca.own_pem.clone(),
        extra_roots: settings.ca.extra_roots.clone(),
        ..AuthoritySettings::new(settings.trust_domain.clone(), settings.state_dir.join("ca"))
    }
}

/// What proves identities beside join tokens and certificates.
pub(crate) struct Attestors {
    consul: Option<Arc<ConsulAttestor>>,
    pub(crate) kubernetes: Arc<KubernetesAttestor>,
    nomad: Option<Arc<NomadAttestor>>,
}

impl Attestors {
    /// Those of the registries that the settings name.
    pub(crate) fn new(settings: &Settings) -> Result<Self> {
        let consul = Some(Arc::new(consul(settings)?));
        // Also where the settings name none: Secrets may bring some.
        let kubernetes = Arc::new(kubernetes(settings)?);
        Ok(Self { consul, kubernetes, nomad: nomad(settings)?.map(Arc::new) })
    }
}

/// The registry that `[ca.SECTION."ID"]` is about.
fn registry<'a>(settings: &'a Settings, section: &str, id: &RegistryId) -> Result<&'a RegistrySettings> {
    let registry = settings.registry.iter().find(|registry| registry.id == *id);
    registry.with_context(|| format!("settings: ca.{section}.{id:?}: no [[registry]] has this id"))
}

fn kubernetes(settings: &Settings) -> Result<KubernetesAttestor> {
    let mut clusters = BTreeMap::new();
    for (id, attestation) in &settings.ca.kubernetes {
        let registry = registry(settings, "kubernetes", id)?;
        if id.kind() != RegistryKind::Kubernetes {
            bail!("settings: ca.kubernetes.{id:?}: expected a registry kubernetes/NAME");
        }
        if attestation.audience.is_empty() {
            bail!(
                "settings: ca.kubernetes.{id:?}.audience is empty; expected one that is the control plane's alone"
            );
        }
        let reviews = TokenReviews::new(registry.kubernetes.clone().unwrap_or_default());
        let reviewer = Box::new(reviews.with_context(|| format!("settings of registry {id}"))?);
        clusters.insert(id.clone(), KubernetesCluster { audience: attestation.audience.clone(), reviewer });
    }
    Ok(KubernetesAttestor::new(settings.trust_domain.clone(), clusters))
}

fn nomad(settings: &Settings) -> Result<Option<NomadAttestor>> {
    let mut regions = BTreeMap::new();
    for (id, rules) in &settings.ca.nomad {
        let registry = registry(settings, "nomad", id)?;
        if id.kind() != RegistryKind::Nomad {
            bail!("settings: ca.nomad.{id:?}: expected a registry nomad/NAME");
        }
        rules.check().map_err(|problem| anyhow!("settings: ca.nomad.{id:?}: {problem}"))?;
        let nomad = registry.nomad.clone().unwrap_or_default();
        let witness = NomadWitness::new(&nomad).with_context(|| format!("settings of registry {id}"))?;
        regions.insert(id.clone(), NomadRegion::new(rules.clone(), &nomad, witness));
    }
    Ok((!regions.is_empty()).then(|| NomadAttestor::new(settings.trust_domain.clone(), regions)))
}

fn consul(settings: &Settings) -> Result<ConsulAttestor> {
    let mut datacenters = BTreeMap::new();
    for (id, attestation) in &settings.ca.consul {
        let registry = registry(settings, "consul", id)?;
        let consul = registry.consul.clone().unwrap_or_default();
        let datacenter = attestation.datacenter.clone().or_else(|| consul.datacenter.clone());
        let client = ConsulClient::new(&consul).with_context(|| format!("settings of registry {id}"))?;
        let datacenter = ConsulDatacenter {
            datacenter: datacenter.unwrap_or_else(|| id.name().to_owned()),
            roots: Box::new(client),
            identities: attestation.identities.clone(),
        };
        datacenters.insert(id.clone(), datacenter);
    }
    Ok(ConsulAttestor::new(settings.trust_domain.clone(), datacenters))
}
