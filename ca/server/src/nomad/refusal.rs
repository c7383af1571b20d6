//! Why a workload identity token of Nomad does not prove an identity, and as what that is counted.
//!
//! Words for the control plane's log: who asked is told nothing of them. What came from outside is cut short.

use std::time::Duration;

use weft_model::{InvalidName, RegistryId};
use weft_registry_nomad::JobIdentityError;
use weft_registry_nomad::sidecar::{IDENTITY_NAME, SIDECAR_TASK};

/// Why Nomad could not be asked.
#[derive(Debug, Clone, thiserror::Error)]
#[error("asking Nomad: {0}")]
pub struct NomadUnavailable(pub String);

/// Why a token does not prove an identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NomadRefusal {
    /// A registry that is not set up for attestation.
    #[error("registry {0:?} attests nobody here")]
    UnknownRegistry(String),
    /// It has not the form of a workload identity token.
    #[error("what came is no workload identity token: {0}")]
    NotAToken(&'static str),
    /// It is signed by what is no signature, or none that Nomad makes.
    #[error("the token is signed by {0:?}; Nomad signs by RS256 or EdDSA")]
    Algorithm(String),
    /// No key of the region has that name.
    #[error(
        "no key of {registry} is named {kid:?}: the token is of another region or cluster, or its key is gone"
    )]
    UnknownKey {
        /// The region that was named.
        registry: RegistryId,
        /// The key that the token names.
        kid: String,
    },
    /// The key that it names did not sign it.
    #[error("the token is not signed by the key {0:?} that it names")]
    Signature(String),
    /// It is for somebody else, or for others too.
    #[error("the token is for {found:?}; expected {expected:?} and nobody else")]
    OtherAudience {
        /// Ours.
        expected: String,
        /// The token's.
        found: Vec<String>,
    },
    /// It would never end.
    #[error("the token has no end (exp); give the identity block a ttl")]
    NoEnd,
    /// It is over.
    #[error("the token is over since {} s", .0.as_secs())]
    Expired(Duration),
    /// It is not valid yet.
    #[error("the token is valid only in {} s; compare the clocks of this host and Nomad's servers", .0.as_secs())]
    NotYet(Duration),
    /// It lives too long.
    #[error("the token lives {} s; at most {} s are allowed (max_lifetime, and the identity block's ttl)", .lifetime.as_secs(), .allowed.as_secs())]
    TooLong {
        /// From its making to its end.
        lifetime: Duration,
        /// By the settings.
        allowed: Duration,
    },
    /// Another issuer made it, or one that does not say who it is.
    #[error("the token's issuer is {found:?}; expected {expected:?}")]
    OtherIssuer {
        /// By the settings.
        expected: String,
        /// The token's.
        found: Option<String>,
    },
    /// It is another task's, or a service's.
    #[error("the token is of {0}; expected one of task {SIDECAR_TASK:?}")]
    OtherTask(String),
    /// It is another of the sidecar's identities.
    #[error(
        "the token's subject {0:?} does not end with \":{SIDECAR_TASK}:{IDENTITY_NAME}\": it is of another identity"
    )]
    OtherIdentity(String),
    /// It contradicts itself or its allocation.
    #[error("the token's {claim} is {claimed:?}, but its allocation's {found:?}")]
    Contradiction {
        /// Which of its claims.
        claim: &'static str,
        /// The token's.
        claimed: String,
        /// What it should be.
        found: String,
    },
    /// Nomad knows no such allocation.
    #[error("the token's allocation {0} is gone")]
    AllocationGone(String),
    /// The allocation, or the sidecar in it, does not run.
    #[error("allocation {allocation} does not run: {found}")]
    NotRunning {
        /// Its id.
        allocation: String,
        /// Which state is what.
        found: String,
    },
    /// Its job has no sidecar in that group.
    #[error("allocation {0}: its group has no task {SIDECAR_TASK:?} in the version of the job that it runs")]
    NoSidecar(String),
    /// Not where the proxy says that it is.
    #[error("allocation {allocation} is on node {found}, but the proxy says that it is on {claimed:?}")]
    OtherNode {
        /// Its id.
        allocation: String,
        /// The proxy's words.
        claimed: String,
        /// Nomad's.
        found: String,
    },
    /// Nomad does not hear of its node.
    #[error("node {node} of allocation {allocation} is {found}; expected one that is ready")]
    NodeAway {
        /// Its id.
        allocation: String,
        /// Where it is.
        node: String,
        /// The node's status.
        found: String,
    },
    /// It names a parent that did not make it.
    #[error("job {job:?} names {parent:?} as its parent: {why}")]
    Parent {
        /// The job.
        job: String,
        /// Whom it names.
        parent: String,
        /// Why that is not so.
        why: &'static str,
    },
    /// The namespace makes no SPIFFE id.
    #[error(transparent)]
    Namespace(#[from] InvalidName),
    /// The job may not be what it claims.
    #[error(transparent)]
    Identity(#[from] JobIdentityError),
    /// Nomad did not answer; not the caller's mistake.
    #[error(transparent)]
    Unavailable(#[from] NomadUnavailable),
}

impl NomadRefusal {
    /// As it is counted.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::UnknownRegistry(_) => "nomad_not_set_up",
            Self::NotAToken(_) | Self::Algorithm(_) => "nomad_token",
            Self::UnknownKey { .. } | Self::Signature(_) => "nomad_signature",
            Self::OtherAudience { .. } => "nomad_audience",
            Self::NoEnd | Self::TooLong { .. } => "nomad_lifetime",
            Self::Expired(_) | Self::NotYet(_) => "nomad_expired",
            Self::OtherIssuer { .. } => "nomad_issuer",
            Self::OtherTask(_) | Self::OtherIdentity(_) | Self::NoSidecar(_) => "nomad_task",
            Self::Contradiction { .. } => "nomad_claims",
            Self::AllocationGone(_) => "nomad_allocation_gone",
            Self::NotRunning { .. } => "nomad_not_running",
            Self::OtherNode { .. } | Self::NodeAway { .. } => "nomad_node",
            Self::Parent { .. } => "nomad_parent",
            Self::Namespace(_) | Self::Identity(_) => "nomad_identity",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

/// Text from outside, for a log line.
pub(super) fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}
