//! The injection webhook: HTTPS for Kubernetes' API server, and for the kubelet's probes of this process.
//!
//! What is answered is decided by `weft-injector`, which is pure; here are the socket, the certificate that renews itself,
//! and the API server's record of whom to trust. The API server shows no certificate, so everybody who reaches the port may
//! ask; an answer tells what is in the question and how proxies are set up. The most that comes of a question is an Event in
//! our own words, at a tight rate (`events.rs`).

mod certificate;
mod configuration;
mod serve;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio::net::TcpListener;
use weft_ca::Authority;
use weft_injector::InjectorSettings;
use weft_model::RegistryId;
use weft_registry_kubernetes::KubernetesSettings;

use crate::admin::Admin;
use crate::events::Teller;
use crate::settings::Settings;
use certificate::Certificate;
use configuration::Configuration;

/// `[webhook]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookSettings {
    /// Where the API server calls.
    #[serde(default = "default_listen")]
    pub(crate) listen: SocketAddr,
    /// The DNS names by which it calls: those of the certificate.
    #[serde(default = "default_names")]
    pub(crate) names: Vec<String>,
    /// Whose API server it is: a `[[registry]]` of kind `kubernetes`.
    pub(crate) registry: RegistryId,
    /// The MutatingWebhookConfiguration whose `caBundle` is kept up to date. Absent: somebody else's part.
    #[serde(default)]
    pub(crate) configuration: Option<String>,
    /// How proxies are set up.
    #[serde(default)]
    pub(crate) injector: InjectorSettings,
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 15017))
}

fn default_names() -> Vec<String> {
    vec!["weft-control.weft-system.svc".to_owned()]
}

/// The open webhook.
pub(crate) struct Webhook {
    registry: RegistryId,
    listener: TcpListener,
    certificate: Arc<Certificate>,
    injector: InjectorSettings,
    configuration: Option<Configuration>,
}

impl Webhook {
    /// Opens the socket and makes the first certificate, where the settings have a webhook.
    ///
    /// # Errors
    /// Which setting is wrong, or why the port can't be had.
    pub(crate) async fn open(settings: &Settings, authority: &Arc<Authority>) -> Result<Option<Self>> {
        let Some(webhook) = &settings.webhook else { return Ok(None) };
        let kubernetes = kubernetes(settings, webhook)?;
        let injector = InjectorSettings { registry: webhook.registry.clone(), ..webhook.injector.clone() };
        let problems = injector.problems();
        if !problems.is_empty() {
            bail!("settings: webhook.injector: {}", problems.join("; "));
        }
        let listener = TcpListener::bind(webhook.listen).await;
        let listener = listener.with_context(|| format!("opening webhook.listen {}", webhook.listen))?;
        let certificate = Certificate::new(authority.clone(), webhook.names.clone());
        let certificate = Arc::new(certificate.context("settings: webhook.names")?);
        let configuration =
            webhook.configuration.clone().map(|name| Configuration::new(name, kubernetes, authority.clone()));
        let registry = webhook.registry.clone();
        Ok(Some(Self { registry, listener, certificate, injector, configuration }))
    }

    /// Whose API server calls.
    pub(crate) fn registry(&self) -> &RegistryId {
        &self.registry
    }

    /// Serves for ever. `teller` hears of pods that have no proxy against expectation.
    pub(crate) async fn run(self, admin: Arc<Admin>, teller: Teller) {
        let Self { listener, certificate, injector, configuration, .. } = self;
        let port = serve::Port { injector, admin, teller };
        let keep = async {
            match configuration {
                Some(configuration) => configuration.keep().await,
                None => std::future::pending().await,
            }
        };
        tokio::join!(certificate.keep(), keep, serve::serve(listener, &certificate, port));
    }
}

fn kubernetes(settings: &Settings, webhook: &WebhookSettings) -> Result<KubernetesSettings> {
    let found = settings.registry.iter().find(|registry| registry.id == webhook.registry);
    let registry = found
        .with_context(|| format!("settings: webhook.registry: no [[registry]] is {}", webhook.registry))?;
    if webhook.registry.kind() != weft_model::RegistryKind::Kubernetes {
        bail!("settings: webhook.registry: {} is no Kubernetes", webhook.registry);
    }
    Ok(registry.kubernetes.clone().unwrap_or_default())
}
