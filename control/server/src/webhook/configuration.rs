//! The API server's record of whom to trust at the webhook: `caBundle` of the MutatingWebhookConfiguration.
//!
//! It is all roots of the trust bundle, so that a root that is being replaced is trusted before and after. It is compared
//! now and then and written only where it differs: somebody else's apply takes it away. Nothing else of the object is
//! touched. Every replica writes the same, so that nobody has to be elected for it.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use weft_ca::Authority;
use weft_registry_kubernetes::{KubernetesSettings, connect};

/// Keeps one object.
pub(super) struct Configuration {
    name: String,
    kubernetes: KubernetesSettings,
    authority: Arc<Authority>,
}

/// How often it is compared. Until then pods are created without a proxy, or not at all, as its failure policy says.
const EVERY: Duration = Duration::from_secs(10);

impl Configuration {
    pub(super) fn new(name: String, kubernetes: KubernetesSettings, authority: Arc<Authority>) -> Self {
        Self { name, kubernetes, authority }
    }

    /// Runs for ever.
    pub(super) async fn keep(&self) {
        let (mut told, mut client) = (String::new(), None);
        loop {
            let looked = self.look(&mut client).await;
            if looked.is_err() {
                // The kubeconfig, its address or its certificates may be others by now.
                client = None;
            }
            match looked {
                Ok(true) => {
                    tracing::info!(configuration = self.name, "the API server knows this CA's roots now")
                }
                Ok(false) => {}
                // Said once for each reason: the same again helps nobody.
                Err(error) if error != told => {
                    tracing::warn!(
                        configuration = self.name,
                        "the webhook's caBundle could not be kept: {error}"
                    );
                    told = error;
                }
                Err(_) => {}
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Compares, and writes where it differs. Whether it wrote.
    async fn look(&self, client: &mut Option<Client>) -> Result<bool, String> {
        let client = match client {
            Some(client) => client,
            None => client.insert(connect(&self.kubernetes).await.map_err(|error| error.to_string())?),
        };
        let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
        let object = api.get(&self.name).await.map_err(|error| error.to_string())?;
        let bundle = pem(&self.authority);
        let Some(patch) = patch(&object, &bundle) else { return Ok(false) };
        let patch = Patch::Strategic(patch);
        api.patch(&self.name, &PatchParams::default(), &patch).await.map_err(|error| error.to_string())?;
        Ok(true)
    }
}

/// The roots, as PEM.
fn pem(authority: &Authority) -> String {
    let roots = authority.bundle().roots;
    roots.iter().map(|root| certificate_pem(root)).collect()
}

fn certificate_pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned() + "\n");
    let body: String = lines.collect();
    format!("-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n")
}

/// What makes every webhook of the object trust `bundle`; `None` where each does. Webhooks are merged by their names.
fn patch(object: &MutatingWebhookConfiguration, bundle: &str) -> Option<Value> {
    let webhooks = object.webhooks.as_deref().unwrap_or_default();
    let others = webhooks.iter().filter(|webhook| {
        let known = webhook.client_config.ca_bundle.as_ref();
        known.is_none_or(|known| known.0 != bundle.as_bytes())
    });
    let encoded = STANDARD.encode(bundle);
    let others: Vec<Value> =
        others.map(|webhook| json!({"name": webhook.name, "clientConfig": {"caBundle": encoded}})).collect();
    (!others.is_empty()).then(|| json!({"webhooks": others}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(bundles: &[(&str, Option<&str>)]) -> MutatingWebhookConfiguration {
        let webhooks: Vec<Value> = bundles
            .iter()
            .map(|(name, bundle)| {
                let bundle = bundle.map(|bundle| STANDARD.encode(bundle));
                json!({"name": name, "clientConfig": {"caBundle": bundle}, "sideEffects": "None",
                       "admissionReviewVersions": ["v1"]})
            })
            .collect();
        serde_json::from_value(json!({"metadata": {"name": "weft-injector"}, "webhooks": webhooks})).unwrap()
    }

    #[test]
    fn only_webhooks_that_do_not_trust_the_roots_are_written() {
        let known =
            object(&[("pods.inject.weft.dev", Some("roots")), ("namespaces.inject.weft.dev", Some("roots"))]);
        assert_eq!(patch(&known, "roots"), None);
        let half = object(&[("a", Some("roots")), ("b", None), ("c", Some("old"))]);
        let patch = patch(&half, "roots").unwrap();
        let names: Vec<&str> =
            patch["webhooks"].as_array().unwrap().iter().map(|w| w["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["b", "c"]);
        assert_eq!(patch["webhooks"][0]["clientConfig"]["caBundle"], STANDARD.encode("roots"));
    }

    #[test]
    fn roots_are_pem_with_lines_of_64() {
        let pem = certificate_pem(&[7; 100]);
        assert!(
            pem.starts_with("-----BEGIN CERTIFICATE-----\n") && pem.ends_with("-----END CERTIFICATE-----\n")
        );
        assert!(pem.lines().all(|line| line.len() <= 64));
        assert_eq!(weft_identity::certificates_from_pem(&pem).unwrap()[0].as_ref(), [7; 100]);
    }
}
