//! Writes Events through a cluster's API server: the only IO of this module.
//!
//! The object is looked up first: an Event without its uid is not shown by `kubectl describe`, and what is gone need hear
//! nothing. Needs `create` on `events`; with `get` on pods, services and endpointslices Events have their objects' uids.

use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Event, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::jiff::Timestamp;
use kube::core::Status;
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use weft_model::RegistryId;
use weft_registry_kubernetes::{KubernetesSettings, connect};

use super::note::{About, Note};
use super::telling::Outcome;

/// One cluster's.
pub(super) struct Writer {
    registry: RegistryId,
    settings: KubernetesSettings,
    client: Option<Client>,
    /// What the log was told last: the same again helps nobody.
    told: Option<String>,
}

/// The uid of an object.
enum Uid {
    Is(String),
    Unknown,
    /// There is no such object.
    Gone,
}

impl Writer {
    pub(super) fn new(registry: RegistryId, settings: KubernetesSettings) -> Self {
        Self { registry, settings, client: None, told: None }
    }

    /// Says it. Takes [`PATIENCE`] at most.
    pub(super) async fn write(&mut self, note: &Note) -> Outcome {
        let written = tokio::time::timeout(PATIENCE, self.attempt(note)).await;
        let (outcome, why) = match written {
            Ok(Ok(())) => {
                self.told = None;
                return Outcome::Done;
            }
            Ok(Err(failed)) => failed,
            Err(_) => (Outcome::NotNow, format!("no answer within {PATIENCE:?}")),
        };
        if outcome != Outcome::Done {
            // The way to the server, or the right to ask it, may have changed when it is asked again.
            self.client = None;
        }
        if self.told.as_ref() != Some(&why) {
            tracing::warn!(registry = %self.registry, ?outcome, "an Event could not be written (create on events): {why}");
            self.told = Some(why);
        }
        outcome
    }

    async fn attempt(&mut self, note: &Note) -> Result<(), (Outcome, String)> {
        let client = match &self.client {
            Some(client) => client.clone(),
            None => {
                let made = connect(&self.settings).await;
                let made = made.map_err(|error| (Outcome::NotNow, error.to_string()))?;
                self.client.insert(made).clone()
            }
        };
        let uid = match uid(&client, &note.about).await.or_else(|error| failed(&error).map(|()| Uid::Gone))? {
            Uid::Is(uid) => Some(uid),
            Uid::Unknown => None,
            Uid::Gone => return Ok(()),
        };
        let api: Api<Event> = Api::namespaced(client, &note.about.namespace);
        let event = note.event(uid, Timestamp::now());
        match api.create(&Default::default(), &event).await {
            Ok(_) => Ok(()),
            Err(error) => failed(&error),
        }
    }
}

async fn uid(client: &Client, about: &About) -> kube::Result<Uid> {
    match (&about.uid, about.kind.as_str()) {
        (Some(uid), _) => Ok(Uid::Is(uid.clone())),
        (None, "Pod") => uid_of::<Pod>(client, about).await,
        (None, "Service") => uid_of::<Service>(client, about).await,
        (None, "EndpointSlice") => uid_of::<EndpointSlice>(client, about).await,
        (None, _) => Ok(Uid::Unknown),
    }
}

async fn uid_of<K>(client: &Client, about: &About) -> kube::Result<Uid>
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), &about.namespace);
    match api.get_metadata_opt(&about.name).await {
        Ok(Some(object)) => Ok(object.metadata.uid.map_or(Uid::Unknown, Uid::Is)),
        Ok(None) => Ok(Uid::Gone),
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(Uid::Unknown),
        Err(error) => Err(error),
    }
}

/// What an error means: nothing, where it was said already or the object's namespace goes.
fn failed(error: &kube::Error) -> Result<(), (Outcome, String)> {
    let kube::Error::Api(status) = error else { return Err((Outcome::NotNow, error.to_string())) };
    let outcome = match status.code {
        404 | 409 => return Ok(()),
        403 if is_ending(status) => return Ok(()),
        403 => Outcome::Refused,
        401 | 408 | 429 | 500.. => Outcome::NotNow,
        // The same again would be answered the same.
        _ => Outcome::Done,
    };
    Err((outcome, format!("the API server answers {}: {}", status.code, status.message)))
}

/// Whether nothing new may be in the namespace since it is being deleted.
fn is_ending(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

/// For both questions. Nobody waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn outcome(code: u16, details: Value) -> Option<Outcome> {
        let status = json!({"code": code, "reason": "R", "message": "m", "details": details});
        let status: Status = serde_json::from_value(status).unwrap();
        failed(&kube::Error::Api(status.boxed())).err().map(|(outcome, _)| outcome)
    }

    #[test]
    fn each_answer_of_the_api_server_means_its_outcome() {
        for (code, means) in [
            (409, None),
            (404, None),
            (403, Some(Outcome::Refused)),
            (401, Some(Outcome::NotNow)),
            (429, Some(Outcome::NotNow)),
            (500, Some(Outcome::NotNow)),
            (503, Some(Outcome::NotNow)),
            (400, Some(Outcome::Done)),
            (422, Some(Outcome::Done)),
        ] {
            assert_eq!(outcome(code, Value::Null), means, "{code}");
        }
        let ending = json!({"causes": [{"reason": "NamespaceTerminating", "message": "m", "field": ""}]});
        assert_eq!(outcome(403, ending), None);
    }

    #[tokio::test]
    async fn a_cluster_that_can_not_be_reached_is_one_line_in_the_log_and_no_error() {
        let settings = KubernetesSettings { kubeconfig: Some("/no/such/file".into()), ..Default::default() };
        let mut writer = Writer::new("kubernetes/test".parse().unwrap(), settings);
        let note = Note::of_problem(&weft_registry::Problem::error("pod shop/web-0", "bad")).unwrap();
        assert_eq!(writer.write(&note).await, Outcome::NotNow);
        assert!(writer.told.as_deref().unwrap().contains("/no/such/file"));
    }
}
