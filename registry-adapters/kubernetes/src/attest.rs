//! What attestation asks a cluster's API server: whether it vouches for a service account token, and which pod lives under a
//! name now. No rule is decided here; the certificate authority does that.
//!
//! Answers are read here and not by kube, which logs the text of one that it can't read: a TokenReview repeats the token, and
//! a pod may hold secrets in its environment. Of both only what is used is read.

use std::collections::BTreeMap;

use kube::Client;
use kube::core::params::{GetParams, PostParams};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::Mutex;

use crate::connect::{client, connect_inline, connect_with, in_cluster, read};
use crate::error::KubernetesError;
use crate::settings::{InvalidSettings, KubernetesSettings};

/// One cluster's API server, as the witness of its pods. Needs `create` on `tokenreviews.authentication.k8s.io`, and `get` on
/// `pods`. Connects when it is first asked.
pub struct TokenReviews {
    settings: KubernetesSettings,
    connected: Mutex<Option<Connected>>,
}

struct Connected {
    /// The text of the kubeconfig that says where to and as whom, where there is one.
    kubeconfig: Option<String>,
    client: Client,
}

/// The status of a TokenReview.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct TokenReviewStatus {
    /// Whether the server vouches for the token.
    pub authenticated: bool,
    /// Why not, in the server's words.
    pub error: String,
    /// Those of the audiences asked for that the token has. Empty where the server knows no audiences.
    pub audiences: Vec<String>,
    /// Whose token it is.
    pub user: ReviewedUser,
}

/// Whose token it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct ReviewedUser {
    /// `system:serviceaccount:NAMESPACE:NAME` for a service account.
    pub username: String,
    /// What the token is bound to: the keys are constants of [`extra`].
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The keys of [`ReviewedUser::extra`]. Kubernetes' `pkg/serviceaccount` and `apiserver/pkg/authentication/serviceaccount`.
pub mod extra {
    /// The pod that the token is bound to.
    pub const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
    /// Its uid.
    pub const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
    /// The node that the pod was on when the token was made. Since Kubernetes 1.30.
    pub const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
    /// The token's own id, which is in the server's audit log too. Since Kubernetes 1.30.
    pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";
}

/// A pod as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LivePod {
    /// Of the pod, not of its name: a successor has another one.
    pub uid: String,
    /// The node, once it is scheduled.
    pub node: Option<String>,
    /// Its service account.
    pub service_account: String,
    /// Its deletion has begun.
    pub terminating: bool,
    /// Its containers have ended and will not run again.
    pub finished: bool,
}

/// Why the API server could not be asked. Nothing is known of the token or pod then.
#[derive(Debug, thiserror::Error)]
#[error("{asked}: {cause}")]
pub struct TokenReviewsError {
    asked: &'static str,
    cause: String,
}

impl TokenReviews {
    /// Of the cluster of these settings.
    ///
    /// # Errors
    /// When the settings can't be used; no file is read.
    pub fn new(settings: KubernetesSettings) -> Result<Self, InvalidSettings> {
        settings.check()?;
        Ok(Self { settings, connected: Mutex::default() })
    }

    /// What the API server says of `token`, for `audience`.
    ///
    /// # Errors
    /// When it does not answer, may not be asked, or its answer can't be read.
    pub async fn review(&self, token: &str, audience: &str) -> Result<TokenReviewStatus, TokenReviewsError> {
        const ASKED: &str = "reviewing a token (create on tokenreviews.authentication.k8s.io)";
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": { "token": token, "audiences": [audience] },
        });
        let collection = kube::core::Request::new("/apis/authentication.k8s.io/v1/tokenreviews");
        let request = collection.create(&PostParams::default(), review.to_string().into_bytes());
        let text = self.send(ASKED, request).await?;
        let text = text.map_err(|cause| error(ASKED, without(token, describe(&cause))))?;
        Ok(parse::<Answer>(&text).map_err(|cause| error(ASKED, cause))?.status)
    }

    /// The pod of that name, if there is one. Both names must be legal ones of Kubernetes.
    ///
    /// # Errors
    /// When the API server does not answer, may not be asked, or its answer can't be read.
    pub async fn pod(&self, namespace: &str, name: &str) -> Result<Option<LivePod>, TokenReviewsError> {
        const ASKED: &str = "reading a pod (get on pods)";
        let collection = kube::core::Request::new(format!("/api/v1/namespaces/{namespace}/pods"));
        let request = collection.get(name, &GetParams::default());
        match self.send(ASKED, request).await? {
            Ok(text) => {
                let pod = parse::<Pod>(&text).map_err(|cause| error(ASKED, cause))?;
                Ok(Some(pod.into()))
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(cause) => Err(error(ASKED, describe(&cause))),
        }
    }

    /// What the server says. Connected anew after each failure: the way to it, or the right to ask it, may have changed.
    async fn send(
        &self,
        asked: &'static str,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<kube::Result<String>, TokenReviewsError> {
        let client = self.client().await.map_err(|cause| error(asked, cause.to_string()))?;
        let answer = async { client.request_text(request.map_err(kube::Error::BuildRequest)?).await }.await;
        if !matches!(&answer, Ok(_) | Err(kube::Error::Api(_))) || is_unauthorized(&answer) {
            *self.connected.lock().await = None;
        }
        Ok(answer)
    }

    /// The client for the cluster that the kubeconfig names now: another one must not be vouched for by this one.
    async fn client(&self) -> Result<Client, KubernetesError> {
        let KubernetesSettings { kubeconfig: path, inline, context, .. } = &self.settings;
        let kubeconfig = match path {
            Some(path) => Some(read(path).await?),
            None => None,
        };
        let mut connected = self.connected.lock().await;
        if let Some(known) = connected.as_ref().filter(|known| known.kubeconfig == kubeconfig) {
            return Ok(known.client.clone());
        }
        let client = match (path, &kubeconfig, inline) {
            (_, _, Some(inline)) => connect_inline(inline, context.as_deref()).await?,
            (Some(path), Some(text), _) => connect_with(path, text, context.as_deref()).await?,
            _ => client(in_cluster()?)?,
        };
        *connected = Some(Connected { kubeconfig, client: client.clone() });
        Ok(client)
    }
}

fn is_unauthorized(answer: &kube::Result<String>) -> bool {
    matches!(answer, Err(kube::Error::Api(status)) if status.code == 401)
}

impl std::fmt::Debug for TokenReviews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenReviews")
    }
}

#[derive(Deserialize)]
struct Answer {
    status: TokenReviewStatus,
}

/// The part of a pod that matters here.
#[derive(Deserialize)]
struct Pod {
    metadata: PodMetadata,
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodMetadata {
    uid: String,
    deletion_timestamp: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    node_name: Option<String>,
    #[serde(default)]
    service_account_name: String,
}

#[derive(Deserialize, Default)]
struct PodStatus {
    #[serde(default)]
    phase: String,
}

impl From<Pod> for LivePod {
    fn from(Pod { metadata, spec, status }: Pod) -> Self {
        Self {
            uid: metadata.uid,
            node: spec.node_name.filter(|name| !name.is_empty()),
            service_account: spec.service_account_name,
            terminating: metadata.deletion_timestamp.is_some(),
            finished: matches!(status.phase.as_str(), "Succeeded" | "Failed"),
        }
    }
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    // Where, and not what: serde's own message may quote a value.
    serde_json::from_str(text).map_err(|error| {
        format!("the answer can't be read at line {}, column {}", error.line(), error.column())
    })
}

fn error(asked: &'static str, cause: String) -> TokenReviewsError {
    TokenReviewsError { asked, cause }
}

/// What the server said, or why it said nothing.
fn describe(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("the API server answers {}: {}", status.code, status.message);
    }
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

/// What stands between us and the server may repeat in its error what we sent.
fn without(secret: &str, text: String) -> String {
    if secret.is_empty() { text } else { text.replace(secret, "[the token]") }
}

#[cfg(test)]
mod tests;
