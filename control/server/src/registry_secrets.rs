//! Registries out of Secrets: a Secret with the label `weft.dev/registry: kubernetes` is a cluster to follow, as if it were in
//! the settings, from when it is made until it is deleted.
//!
//! What a Secret means is decided here (`wanted.rs`, pure); a watch only says when to look, and what there is is always a
//! whole list. A list that fails changes nothing. One that lacks a Secret is read a second time before that registry goes:
//! an API server that comes back empty must not cost the mesh a cluster. A Secret that is wrong changes nothing of what is
//! followed by its last good state, is told as an Event on it, and, where it never was good, stands among the registries with
//! the reason. Each replica reads them for itself.

mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ListParams, WatchParams};
use kube::core::WatchEvent;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use weft_ca::{KubernetesAttestor, KubernetesCluster};
use weft_model::{Mapping, RegistryEvent, RegistryId, TrustDomain};
use weft_registry::{Registry, RegistryError, Reread, SuperviseSettings};
use weft_registry_kubernetes::attest::TokenReviews;
use weft_registry_kubernetes::{KubernetesRegistry, KubernetesSettings, connect};

use crate::events::Teller;
use crate::ingest::{Followed, RegistryChange};
use wanted::{Wanted, read};

/// `[registry_secrets]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RegistrySecretSettings {
    /// Whose API server has the Secrets: a `[[registry]]` of kind `kubernetes`, by which it is reached.
    pub(crate) registry: RegistryId,
    /// Their namespace; absent: that of this pod, or of the kubeconfig's context.
    #[serde(default)]
    pub(crate) namespace: Option<String>,
}

/// Follows the Secrets.
pub(crate) struct RegistrySecrets {
    pub(crate) settings: RegistrySecretSettings,
    /// The way to the API server that has them.
    pub(crate) cluster: KubernetesSettings,
    pub(crate) trust_domain: TrustDomain,
    /// The registries of the settings, whose names are taken.
    pub(crate) configured: BTreeSet<RegistryId>,
    pub(crate) changes: mpsc::Sender<RegistryChange>,
    pub(crate) attestor: Arc<KubernetesAttestor>,
    pub(crate) teller: Teller,
}

/// What is followed, and by what.
#[derive(Default)]
struct Known {
    /// `None`: it never was good, and stands there with the reason.
    followed: BTreeMap<RegistryId, Option<Wanted>>,
    all_known: bool,
}

impl RegistrySecrets {
    /// Runs for ever.
    pub(crate) async fn run(self) {
        let (mut known, mut said) = (Known::default(), String::new());
        let mut pause = RETRY_FIRST;
        loop {
            match self.round(&mut known).await {
                // The process is about to end, and nobody waits for this.
                Ok(Ended::Ingestion) => return pending().await,
                Ok(Ended::Watch) => {
                    said.clear();
                    pause = RETRY_FIRST;
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    if error != said {
                        tracing::error!(
                            "Secrets of registries can't be read; what is followed stays: {error}"
                        );
                        said = error;
                    }
                    pause = (pause * 2).min(RETRY_LAST);
                }
            }
            sleep(pause).await;
        }
    }

    /// Reads what there is, and waits until it may be something else.
    async fn round(&self, known: &mut Known) -> anyhow::Result<Ended> {
        let api = self.api().await?;
        let params = ListParams::default().labels(SELECTOR);
        let mut list = api.list(&params).await?;
        if self.lacks(known, &list.items) {
            sleep(CONFIRM).await;
            list = api.list(&params).await?;
        }
        if self.take(known, &list.items).await.is_err() {
            return Ok(Ended::Ingestion);
        }
        let version = list.metadata.resource_version.unwrap_or_default();
        let watch = WatchParams::default().labels(SELECTOR).timeout(WATCH_SECONDS);
        let mut events = std::pin::pin!(api.watch(&watch, &version).await?);
        // One that hangs is the same as one that ended: the list tells.
        let longest = Duration::from_secs(u64::from(WATCH_SECONDS) * 2);
        loop {
            match timeout(longest, events.next()).await {
                Ok(Some(Ok(WatchEvent::Bookmark(_)))) => {}
                Ok(Some(Err(error))) => return Err(error.into()),
                Ok(Some(Ok(_)) | None) | Err(_) => return Ok(Ended::Watch),
            }
        }
    }

    async fn api(&self) -> anyhow::Result<Api<Secret>> {
        let client = connect(&self.cluster).await?;
        Ok(match &self.settings.namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::default_namespaced(client),
        })
    }

    fn lacks(&self, known: &Known, listed: &[Secret]) -> bool {
        let there: BTreeSet<_> = listed.iter().filter_map(wanted::id_of).collect();
        known.followed.keys().any(|id| !there.contains(id))
    }

    /// Brings what is followed to what there is. An error: ingestion has ended.
    async fn take(&self, known: &mut Known, listed: &[Secret]) -> Result<(), Gone> {
        let mut there = BTreeSet::new();
        for secret in listed {
            let read = read(secret, &self.configured);
            if let Err(problem) = &read {
                self.tell(secret, problem);
            }
            let Some(id) = wanted::id_of(secret).filter(|id| !self.configured.contains(id)) else { continue };
            there.insert(id.clone());
            match (read, known.followed.get(&id)) {
                (Ok(wanted), Some(Some(had))) if wanted == *had => {}
                (Ok(wanted), _) => {
                    self.follow(&id, &wanted).await?;
                    known.followed.insert(id, Some(wanted));
                }
                // Its last good state stays.
                (Err(_), Some(Some(_))) => {}
                (Err(reason), _) => {
                    self.send(unusable(&id, reason)).await?;
                    known.followed.insert(id, None);
                }
            }
        }
        let gone: Vec<RegistryId> =
            known.followed.keys().filter(|id| !there.contains(*id)).cloned().collect();
        for id in gone {
            tracing::info!(registry = %id, "its Secret is gone: it is followed no more, and what it held goes");
            self.attestor.forget(&id);
            self.send(RegistryChange::Forget(id.clone())).await?;
            known.followed.remove(&id);
        }
        if !std::mem::replace(&mut known.all_known, true) {
            self.send(RegistryChange::AllKnown).await?;
        }
        Ok(())
    }

    async fn follow(&self, id: &RegistryId, wanted: &Wanted) -> Result<(), Gone> {
        tracing::info!(registry = %id, "followed, as its Secret says");
        self.attestor.forget(id);
        if let Some(audience) = &wanted.audience
            && let Ok(reviews) = TokenReviews::new(wanted.settings.clone())
        {
            let cluster = KubernetesCluster { audience: audience.clone(), reviewer: Box::new(reviews) };
            self.attestor.accept(id.clone(), cluster);
        }
        let made = KubernetesRegistry::new(id.clone(), wanted.settings.clone(), self.trust_domain.clone());
        match made {
            Ok(registry) => self.send(following(Box::new(registry), true)).await,
            // `read` has checked it.
            Err(error) => self.send(unusable(id, error.to_string())).await,
        }
    }

    async fn send(&self, change: RegistryChange) -> Result<(), Gone> {
        self.changes.send(change).await.map_err(|_| Gone)
    }

    fn tell(&self, secret: &Secret, problem: &str) {
        let meta = &secret.metadata;
        let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
        tracing::warn!(secret = name, "it is no usable registry: {problem}");
        self.teller.tell_of_secret(
            namespace.unwrap_or_default(),
            name.unwrap_or_default(),
            meta.uid.clone(),
            problem,
        );
    }
}

/// Why a round is over.
enum Ended {
    Watch,
    Ingestion,
}

/// Nobody takes changes any more.
struct Gone;

fn following(registry: Box<dyn Registry>, awaited: bool) -> RegistryChange {
    let (mapping, supervise) = (Mapping::default(), SuperviseSettings::default());
    RegistryChange::Follow { followed: Followed { registry, required: false, mapping, supervise }, awaited }
}

/// A registry that says only why it is none.
struct Unusable {
    id: RegistryId,
    reason: String,
}

fn unusable(id: &RegistryId, reason: String) -> RegistryChange {
    // A mistake in a Secret must not hold up what is known of everything else.
    following(Box::new(Unusable { id: id.clone(), reason }), false)
}

impl Registry for Unusable {
    fn id(&self) -> &RegistryId {
        &self.id
    }

    fn watch(self: Box<Self>, _: Reread) -> stream::BoxStream<'static, Result<RegistryEvent, RegistryError>> {
        let error = RegistryError::garbage(self.reason).about("its Secret");
        stream::iter([Err(error)]).chain(stream::pending()).boxed()
    }
}

/// By this label a Secret is a registry.
const SELECTOR: &str = "weft.dev/registry=kubernetes";
/// A second look, before a registry goes.
const CONFIRM: Duration = Duration::from_secs(2);
/// Between rounds; a watch that ends at once must not spin.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LAST: Duration = Duration::from_secs(30);
/// As long as kube allows.
const WATCH_SECONDS: u32 = 290;
