//! The certificate authority: a CSR and a proof of identity in, an SVID out.
//!
//! [`Authority`] holds the keys and signs; the attestors ([`JoinTokens`], [`ConsulAttestor`], [`KubernetesAttestor`],
//! [`NomadAttestor`], the connection's own certificate) decide for whom; [`CaService`] is the gRPC face of both, over the connections of
//! [`transport`].
//! A library, which `weft-control` embeds, and a binary, which serves the CA alone.
//!
//! Private keys never travel: the CSR contributes a public key and nothing else.

mod authority;
mod connect_roots;
mod consul;
mod consul_id;
mod counts;
mod csr;
mod flush;
mod issuing;
mod keys;
mod kubernetes;
mod limits;
mod nomad;
mod nonces;
mod own;
mod rotation;
mod service;
mod serving;
pub mod settings;
mod shared_tokens;
mod shares;
mod state;
mod token_reviews;
mod tokens;
pub mod transport;

pub use authority::{Authority, AuthoritySettings, Issued, OwnPem};
pub use consul::{
    ConnectRoots, ConnectRootsError, ConnectTrust, ConsulAttestor, ConsulDatacenter, ConsulRefusal,
};
pub use consul_id::{ConsulServiceId, NotAConsulService};
pub use counts::CaCounts;
pub use csr::{Csr, InvalidCsr};
pub use issuing::{AuthorityError, IssueError, leaf_life};
pub use kubernetes::{
    KubernetesAttestor, KubernetesCluster, KubernetesRefusal, LivePod, ReviewedToken, TokenReview,
    TokenReviewError, TokenReviewer,
};
pub use limits::{Buckets, LimitSettings, Rate, RateLimit};
pub use nomad::{
    AllocationWitness, NomadAttestor, NomadRefusal, NomadRegion, NomadTokenRules, NomadUnavailable,
};
pub use own::keep_own_svid;
pub use rotation::{Rotation, RotationPhase, RotationStep};
pub use service::{CaService, CaServiceParts};
pub use serving::Serving;
pub use shared_tokens::SharedTokens;
pub use shares::{Full, Place, Shares};
pub use state::StateError;
pub use tokens::{JoinTokens, TokenError, TokenRecord, TokenRefusal};
pub use weft_identity::TokenState;
