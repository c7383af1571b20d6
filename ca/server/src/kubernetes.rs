//! The Kubernetes attestor: a caller that holds the service account token of a pod that lives is that service account.
//!
//! The cluster's API server says whose the token is ([`TokenReviewer`]); that it is meant for us, bound to a pod, and that
//! this very pod still runs where and as what the token says, is decided here. Nothing is remembered: a token is good only as
//! long as its pod, and the API server alone knows that. One that does not answer refuses nobody; the caller tries again.
//!
//! A token is a secret until it has expired: it is in no error, no log line and no `Debug`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::Semaphore;
use weft_model::{InvalidName, InvalidSpiffeId, Namespace, RegistryId, SpiffeId, TrustDomain};

/// What an API server says of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenReview {
    /// It vouches for it.
    Accepted(ReviewedToken),
    /// It does not, in its own words.
    Rejected(String),
}

/// A token that an API server vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReviewedToken {
    /// `system:serviceaccount:NAMESPACE:NAME`.
    pub username: String,
    /// Those of the audiences asked for that it has.
    pub audiences: Vec<String>,
    /// The pod that it is bound to: name and uid.
    pub pod: Option<(String, String)>,
    /// The node that this pod was on. Old servers don't say.
    pub node: Option<String>,
    /// Its id in the API server's audit log. Old servers don't say.
    pub credential: Option<String>,
}

/// A pod that exists now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LivePod {
    /// Of the pod, not of its name.
    pub uid: String,
    /// Where it is, once it is scheduled.
    pub node: Option<String>,
    /// As what it runs.
    pub service_account: String,
    /// Its deletion has begun, or its containers have ended for good.
    pub ending: bool,
}

/// Why the API server could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("asking the cluster's API server: {0}")]
pub struct TokenReviewError(pub String);

/// Asks a cluster's API server.
pub trait TokenReviewer: Send + Sync + 'static {
    /// What it says of `token`, for `audience`.
    fn review<'a>(
        &'a self,
        token: &'a str,
        audience: &'a str,
    ) -> BoxFuture<'a, Result<TokenReview, TokenReviewError>>;

    /// The pod that has that name now.
    fn pod<'a>(
        &'a self,
        namespace: &'a Namespace,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<LivePod>, TokenReviewError>>;
}

/// A cluster whose tokens are accepted.
pub struct KubernetesCluster {
    /// What its tokens must be meant for. One that nothing else takes, so that ours are of no use elsewhere and others' not
    /// here.
    pub audience: String,
    /// Its API server.
    pub reviewer: Box<dyn TokenReviewer>,
}

/// Why a token does not prove an identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KubernetesRefusal {
    /// A registry that is not set up for attestation.
    #[error("registry {0:?} attests nobody here")]
    UnknownRegistry(String),
    /// It has not the form of a service account token, so nobody was asked.
    #[error("what came is no service account token (three parts, at most {LONGEST_TOKEN} bytes)")]
    NotAToken,
    /// The API server does not vouch for it: expired, or of another cluster.
    #[error("the API server of {registry} does not vouch for the token: {said}")]
    Rejected {
        /// The cluster that was named.
        registry: RegistryId,
        /// The server's words.
        said: String,
    },
    /// It is for somebody else.
    #[error("the token is not for the audience {expected:?}: {said}")]
    OtherAudience {
        /// Ours.
        expected: String,
        /// The server's words, or the audiences.
        said: String,
    },
    /// It is not a service account's.
    #[error("the token is of {0:?}, which is no service account of a pod")]
    NotAServiceAccount(String),
    /// It is bound to no pod, so nobody could tell when it ends.
    #[error("the token of {0} is not bound to a pod; expected one that the kubelet projects into a volume")]
    Unbound(String),
    /// Its pod is not there any more.
    #[error("the token's pod {0} is gone")]
    PodGone(String),
    /// Another pod has its name.
    #[error("the token is of an earlier pod {pod}: its uid is {claimed}, and the pod's {found}")]
    OtherPod {
        /// Namespace and name.
        pod: String,
        /// The uid that the token is bound to.
        claimed: String,
        /// Who has the name.
        found: String,
    },
    /// Its pod is being deleted, or has ended.
    #[error("the token's pod {0} is being deleted or has ended")]
    PodEnding(String),
    /// Its pod is elsewhere.
    #[error("the token says that pod {pod} is on node {claimed}, but it is on {found:?}")]
    OtherNode {
        /// Namespace and name.
        pod: String,
        /// The token's.
        claimed: String,
        /// The pod's.
        found: Option<String>,
    },
    /// Its pod runs as somebody else.
    #[error("pod {pod} runs as service account {found:?}, but the token is of {claimed:?}")]
    OtherAccount {
        /// Namespace and name.
        pod: String,
        /// The token's.
        claimed: String,
        /// The pod's.
        found: String,
    },
    /// The namespace makes no SPIFFE id.
    #[error(transparent)]
    Namespace(#[from] InvalidName),
    /// The service account's name makes no SPIFFE id.
    #[error(transparent)]
    Id(#[from] InvalidSpiffeId),
    /// The API server did not answer; not the caller's mistake.
    #[error(transparent)]
    Unavailable(#[from] TokenReviewError),
}

impl KubernetesRefusal {
    /// As it is counted.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::UnknownRegistry(_) => "kubernetes_not_set_up",
            Self::NotAToken | Self::Rejected { .. } => "kubernetes_token",
            Self::OtherAudience { .. } => "kubernetes_audience",
            Self::Unbound(_) => "kubernetes_unbound",
            Self::PodGone(_) | Self::OtherPod { .. } => "kubernetes_pod_gone",
            Self::PodEnding(_) => "kubernetes_pod_ending",
            Self::OtherNode { .. } => "kubernetes_node",
            Self::NotAServiceAccount(_) | Self::OtherAccount { .. } | Self::Namespace(_) | Self::Id(_) => {
                "kubernetes_account"
            }
            Self::Unavailable(_) => "unavailable",
        }
    }
}

/// Attests callers by the service account tokens of their pods.
pub struct KubernetesAttestor {
    trust_domain: TrustDomain,
    /// Clusters come and go; held only to look one up.
    clusters: Mutex<BTreeMap<RegistryId, Arc<Cluster>>>,
}

struct Cluster {
    settings: KubernetesCluster,
    /// For those who ask the API server.
    places: Semaphore,
}

impl KubernetesAttestor {
    /// An attestor that issues for `trust_domain`.
    pub fn new(trust_domain: TrustDomain, clusters: BTreeMap<RegistryId, KubernetesCluster>) -> Self {
        let attestor = Self { trust_domain, clusters: Mutex::default() };
        clusters.into_iter().for_each(|(id, settings)| attestor.accept(id, settings));
        attestor
    }

    /// Takes tokens of this cluster from now on, and of no other under its name.
    pub fn accept(&self, id: RegistryId, settings: KubernetesCluster) {
        let cluster = Cluster { settings, places: Semaphore::new(REVIEWS_AT_ONCE) };
        self.clusters().insert(id, Arc::new(cluster));
    }

    /// Takes no token of this cluster any more.
    pub fn forget(&self, id: &RegistryId) {
        self.clusters().remove(id);
    }

    fn clusters(&self) -> MutexGuard<'_, BTreeMap<RegistryId, Arc<Cluster>>> {
        // Nothing is half done when a holder panics.
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who the caller is.
    ///
    /// # Errors
    /// Why that is not proven.
    pub async fn attest(&self, registry: &str, token: &str) -> Result<SpiffeId, KubernetesRefusal> {
        let unknown = || KubernetesRefusal::UnknownRegistry(registry.chars().take(100).collect());
        let id: RegistryId = registry.parse().map_err(|_| unknown())?;
        let cluster = self.clusters().get(&id).cloned().ok_or_else(unknown)?;
        if !has_form(token) {
            return Err(KubernetesRefusal::NotAToken);
        }
        let late = |_| TokenReviewError(format!("it did not answer in {} s", PATIENCE.as_secs()));
        let account = tokio::time::timeout(PATIENCE, cluster.account(&id, token)).await.map_err(late)??;
        Ok(SpiffeId::of_service_account(&self.trust_domain, &account.namespace, &account.name)?)
    }
}

impl fmt::Debug for KubernetesAttestor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clusters().keys()).finish()
    }
}

impl Cluster {
    /// Whose token it is, if its pod lives.
    async fn account(&self, id: &RegistryId, token: &str) -> Result<Account, KubernetesRefusal> {
        // Many pods that start at once must not become as many requests at once.
        let _place = self.places.acquire().await;
        let KubernetesCluster { audience, reviewer } = &self.settings;
        let reviewed = match reviewer.review(token, audience).await? {
            TokenReview::Accepted(reviewed) => reviewed,
            TokenReview::Rejected(said) => return Err(rejected(id, audience, &said)),
        };
        let claim = Claim::of(&reviewed, audience)?;
        let pod = reviewer.pod(&claim.account.namespace, claim.pod).await?;
        claim.check(pod)?;
        let credential = reviewed.credential.as_deref().unwrap_or("-");
        tracing::debug!(registry = %id, pod = claim.path(), credential, "a pod's token is good");
        Ok(claim.account)
    }
}

/// A service account of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Account {
    namespace: Namespace,
    name: String,
}

/// What a token says of its pod.
struct Claim<'a> {
    account: Account,
    pod: &'a str,
    uid: &'a str,
    node: Option<&'a str>,
}

impl<'a> Claim<'a> {
    fn of(token: &'a ReviewedToken, audience: &str) -> Result<Self, KubernetesRefusal> {
        // A server that knows no audiences vouches for tokens that are meant for others.
        if !token.audiences.iter().any(|one| one == audience) {
            let (expected, said) = (audience.to_owned(), format!("it is for {:?}", token.audiences));
            return Err(KubernetesRefusal::OtherAudience { expected, said });
        }
        let username = || shown(&token.username);
        let account = token.username.strip_prefix("system:serviceaccount:").and_then(|it| it.split_once(':'));
        let (namespace, name) = account
            .filter(|(_, name)| !name.contains(':'))
            .ok_or_else(|| KubernetesRefusal::NotAServiceAccount(username()))?;
        let account = Account { namespace: namespace.parse()?, name: name.to_owned() };
        let bound = token.pod.as_ref().filter(|(name, uid)| !name.is_empty() && !uid.is_empty());
        let (pod, uid) = bound.ok_or_else(|| KubernetesRefusal::Unbound(username()))?;
        Ok(Self { account, pod, uid, node: token.node.as_deref() })
    }

    /// That this very pod lives, where and as what the token says.
    fn check(&self, found: Option<LivePod>) -> Result<(), KubernetesRefusal> {
        let pod = self.path();
        let Some(found) = found else { return Err(KubernetesRefusal::PodGone(pod)) };
        if found.uid != self.uid {
            let (claimed, found) = (self.uid.to_owned(), found.uid);
            return Err(KubernetesRefusal::OtherPod { pod, claimed, found });
        }
        if found.ending {
            return Err(KubernetesRefusal::PodEnding(pod));
        }
        if let Some(claimed) = self.node.filter(|claimed| found.node.as_deref() != Some(*claimed)) {
            let claimed = claimed.to_owned();
            return Err(KubernetesRefusal::OtherNode { pod, claimed, found: found.node });
        }
        if found.service_account != self.account.name {
            let (claimed, found) = (self.account.name.clone(), found.service_account);
            return Err(KubernetesRefusal::OtherAccount { pod, claimed, found });
        }
        Ok(())
    }

    fn path(&self) -> String {
        format!("{}/{}", self.account.namespace, self.pod)
    }
}

/// Why the server does not vouch for a token. It has words for that and no codes; they decide only what is counted.
fn rejected(registry: &RegistryId, audience: &str, said: &str) -> KubernetesRefusal {
    let words = shown(said);
    if said.contains("is invalid for the target audiences") {
        return KubernetesRefusal::OtherAudience { expected: audience.to_owned(), said: words };
    }
    // Of a bound token whose pod or service account is deleted, or is another one.
    if said.contains("has been invalidated") || said.contains("does not match") {
        return KubernetesRefusal::PodGone(format!("(the API server of {registry} says: {words})"));
    }
    KubernetesRefusal::Rejected { registry: registry.clone(), said: words }
}

/// A JSON web token, by its form alone: what is none costs the API server nothing.
fn has_form(token: &str) -> bool {
    let legal = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    token.len() <= LONGEST_TOKEN && token.split('.').count() == 3 && token.split('.').all(legal)
}

/// Text of the cluster's, for a log line.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// Real ones have about 1.3 kB.
const LONGEST_TOKEN: usize = 16 * 1024;
/// An API server reviews some thousand tokens a second; it has other work.
const REVIEWS_AT_ONCE: usize = 32;
/// For both questions, and the wait for a place. A proxy gives up after 10 s.
const PATIENCE: Duration = Duration::from_secs(8);

#[cfg(test)]
mod tests;
