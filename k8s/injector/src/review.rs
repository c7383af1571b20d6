//! The API server's question about a pod (`admission.k8s.io/v1`, AdmissionReview), and the answer.
//!
//! The review does not hold the namespace's labels. It need not: the webhook is registered for namespaces with
//! `weft.dev/inject=enabled`, and besides for pods with that label; so who is asked about and says nothing itself is in
//! such a namespace.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::inject::{Outcome, inject};
use crate::{INJECT, InjectorSettings, NamespaceView, Skip};

/// More no API server sends: it takes objects up to 3 MiB, and a review holds at most two.
pub const MAX_REVIEW_BYTES: usize = 8 << 20;

/// A body that is no review of a pod. The answer to it is HTTP 400: there is no uid to answer with.
#[derive(Debug, thiserror::Error)]
pub enum BadReview {
    /// It is too large.
    #[error("the review has {0} bytes; at most {MAX_REVIEW_BYTES} are read")]
    TooLarge(usize),
    /// It is not JSON, or not of this form.
    #[error("this is not an AdmissionReview of {VERSION}: {0}")]
    Unreadable(String),
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Reviewed {
    /// The AdmissionReview to send back, JSON.
    pub body: Vec<u8>,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name, or what its name will begin with.
    pub pod: String,
    /// Whether that is its whole name, and not the beginning of one.
    pub is_named: bool,
    /// What made the pod and looks after it.
    pub owner: Option<Owner>,
    /// The pod is not really made: nothing may come of it but the answer.
    pub is_dry_run: bool,
    /// What was answered: for counting, logging and events.
    pub verdict: Verdict,
}

/// A pod's controller, as the pod names it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// The group and version of its kind: `apps/v1`.
    pub api_version: String,
    /// Its kind: `ReplicaSet`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// With a patch.
    Injected,
    /// Yes, as it is.
    Skipped(Skip),
    /// It is not the creation of a pod: yes, as it is.
    NotAPod,
    /// No, and why.
    Refused(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    kind: String,
    request: Request,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    #[serde(default)]
    kind: Kind,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    sub_resource: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    dry_run: Option<bool>,
    #[serde(default)]
    object: Value,
}

#[derive(Deserialize, Default)]
struct Kind {
    #[serde(default)]
    group: String,
    #[serde(default)]
    kind: String,
}

/// Answers a review.
///
/// # Errors
/// When `body` is none.
pub fn review(body: &[u8], settings: &InjectorSettings) -> Result<Reviewed, BadReview> {
    if body.len() > MAX_REVIEW_BYTES {
        return Err(BadReview::TooLarge(body.len()));
    }
    let review: Review =
        serde_json::from_slice(body).map_err(|error| BadReview::Unreadable(error.to_string()))?;
    if review.api_version != VERSION || review.kind != "AdmissionReview" {
        let found = format!("it is {} of {}", review.kind, review.api_version);
        return Err(BadReview::Unreadable(found));
    }
    let request = review.request;
    let (response, verdict) = answer(&request, settings);
    let metadata = |field: &str| {
        let text = request.object.get("metadata")?.get(field)?.as_str();
        text.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let name = metadata("name");
    let envelope = json!({"apiVersion": VERSION, "kind": "AdmissionReview", "response": response});
    Ok(Reviewed {
        body: envelope.to_string().into_bytes(),
        is_named: name.is_some(),
        pod: name.or_else(|| metadata("generateName")).unwrap_or_default(),
        owner: owner(&request.object),
        is_dry_run: request.dry_run.unwrap_or_default(),
        namespace: request.namespace,
        verdict,
    })
}

/// The one owner that is the controller (meta/v1, OwnerReference).
fn owner(pod: &Value) -> Option<Owner> {
    let owners = pod.pointer("/metadata/ownerReferences")?.as_array()?;
    let controller = owners.iter().find(|owner| owner.get("controller") == Some(&Value::Bool(true)))?;
    Owner::deserialize(controller).ok()
}

fn answer(request: &Request, settings: &InjectorSettings) -> (Value, Verdict) {
    let allowed = json!({"uid": request.uid, "allowed": true});
    let is_pod = request.kind.group.is_empty() && request.kind.kind == "Pod";
    if !is_pod || request.operation != "CREATE" || !request.sub_resource.is_empty() {
        return (allowed, Verdict::NotAPod);
    }
    let labels = BTreeMap::from([(INJECT.to_owned(), "enabled".to_owned())]);
    let namespace = NamespaceView { name: &request.namespace, labels: &labels };
    match inject(&request.object, &namespace, settings) {
        Ok(Outcome::Skipped(reason)) => {
            let mut response = allowed;
            response["auditAnnotations"] = json!({"skipped": reason.to_string()});
            if reason.is_surprise() {
                response["warnings"] = json!([warning(&reason.to_string())]);
            }
            (response, Verdict::Skipped(reason))
        }
        Ok(Outcome::Injected(injection)) => {
            let patch = serde_json::to_vec(&injection.patch).unwrap_or_default();
            let mut response = allowed;
            response["patchType"] = "JSONPatch".into();
            response["patch"] = STANDARD.encode(patch).into();
            if !injection.warnings.is_empty() {
                response["warnings"] = injection.warnings.iter().map(|text| warning(text)).collect();
            }
            (response, Verdict::Injected)
        }
        Err(refused) => {
            let message = format!("weft: {refused}");
            let status = json!({"code": 422, "reason": "Invalid", "message": message});
            (
                json!({"uid": request.uid, "allowed": false, "status": status}),
                Verdict::Refused(refused.to_string()),
            )
        }
    }
}

/// A warning as users see it. API servers cut what is longer than 256 characters.
fn warning(text: &str) -> String {
    let text = format!("weft: {text}");
    match text.char_indices().nth(250) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

const VERSION: &str = "admission.k8s.io/v1";
