//! `weft.ca.v1` over tonic: who asks, may they, issue.
//!
//! A refusal says everything to the log and almost nothing to the caller: "not attested" is the same for a wrong
//! secret, a token that does not exist and a foreign leaf. A second use of a join token is logged as an alarm.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use rustls_pki_types::CertificateDer;
use tonic::{Request, Response, Status};
use weft_identity::JoinToken;
use weft_model::SpiffeId;
use weft_proto::ca::v1 as wire;
use weft_proto::ca::v1::certificate_authority_server::{CertificateAuthority, CertificateAuthorityServer};
use weft_proto::ca::v1::issue_request::Attestation;
use weft_proto::mesh::v1::TrustBundle;

use crate::authority::{Authority, Issued, describe};
use crate::consul::{ConsulAttestor, ConsulRefusal};
use crate::counts::CaCounts;
use crate::csr::{Csr, InvalidCsr};
use crate::issuing::IssueError;
use crate::kubernetes::{KubernetesAttestor, KubernetesRefusal};
use crate::limits::{Buckets, LimitSettings};
use crate::nomad::{NomadAttestor, NomadRefusal};
use crate::shared_tokens::{self, SharedTokens};
use crate::tokens::{JoinTokens, TokenRefusal};
use crate::transport::PeerIdentity;

/// What a [`CaService`] is made of.
#[derive(Debug)]
pub struct CaServiceParts {
    /// Signs.
    pub authority: Arc<Authority>,
    /// Attests joins by token.
    pub tokens: Arc<JoinTokens>,
    /// Attests joins by tokens that it has not itself, where several share them.
    pub shared_tokens: Option<Arc<dyn SharedTokens>>,
    /// Attests Consul services, where a Consul is set up.
    pub consul: Option<Arc<ConsulAttestor>>,
    /// Attests pods, where a Kubernetes is set up.
    pub kubernetes: Option<Arc<KubernetesAttestor>>,
    /// Attests allocations, where a Nomad is set up.
    pub nomad: Option<Arc<NomadAttestor>>,
    /// How often one may ask.
    pub limits: LimitSettings,
}

type Identities = Mutex<Buckets<(SpiffeId, IpAddr)>>;

/// The certificate authority as a gRPC service.
#[derive(Debug)]
pub struct CaService {
    authority: Arc<Authority>,
    tokens: Arc<JoinTokens>,
    shared_tokens: Option<Arc<dyn SharedTokens>>,
    consul: Option<Arc<ConsulAttestor>>,
    kubernetes: Option<Arc<KubernetesAttestor>>,
    nomad: Option<Arc<NomadAttestor>>,
    addresses: Mutex<Buckets<IpAddr>>,
    // By address too: who stole an identity's key must not be able to keep its other instances from renewing.
    identities: Arc<Identities>,
    counts: Arc<CaCounts>,
}

impl CaService {
    /// A service of these parts.
    pub fn new(parts: CaServiceParts) -> Self {
        let CaServiceParts { authority, tokens, shared_tokens, consul, kubernetes, nomad, limits } = parts;
        let addresses = Mutex::new(Buckets::new(limits.per_address));
        let identities = Arc::new(Mutex::new(Buckets::new(limits.per_identity)));
        let counts = Arc::default();
        Self { authority, tokens, shared_tokens, consul, kubernetes, nomad, addresses, identities, counts }
    }

    /// What it does is counted here.
    pub fn counts(&self) -> Arc<CaCounts> {
        Arc::clone(&self.counts)
    }

    /// The service for tonic's router, over the connections of [`transport::incoming`](crate::transport::incoming).
    pub fn into_server(self) -> CertificateAuthorityServer<Self> {
        CertificateAuthorityServer::new(self).max_decoding_message_size(LARGEST_REQUEST)
    }

    async fn attest_and_issue(
        &self,
        peer: &PeerIdentity,
        request: wire::IssueRequest,
    ) -> Result<(SpiffeId, Issued), Refusal> {
        let csr = Csr::from_der(&request.csr)?;
        let id = match request.attestation.ok_or(Refusal::NoAttestation)? {
            Attestation::JoinToken(token) => self.by_token(token.token, &csr, peer.remote.ip()).await?,
            Attestation::ConsulLeaf(leaf) => {
                within_rate(&self.identities, self.by_consul(leaf, &request.csr).await?, peer.remote.ip())?
            }
            Attestation::KubernetesToken(token) => {
                within_rate(&self.identities, self.by_kubernetes(token).await?, peer.remote.ip())?
            }
            Attestation::NomadToken(token) => {
                within_rate(&self.identities, self.by_nomad(token).await?, peer.remote.ip())?
            }
            Attestation::Renewal(wire::Renewal {}) => {
                within_rate(&self.identities, by_certificate(peer, SystemTime::now())?, peer.remote.ip())?
            }
        };
        let began = Instant::now();
        let issued = self.authority.issue(&csr, &id, SystemTime::now())?;
        self.counts.signing.observe(began.elapsed());
        Ok((id, issued))
    }

    async fn by_token(&self, text: String, csr: &Csr, address: IpAddr) -> Result<SpiffeId, Refusal> {
        let token: JoinToken = text.parse().map_err(TokenRefusal::from)?;
        // What would be refused later must not cost the token.
        let may = move |csr: &Csr, identities: &Identities, id: &SpiffeId| {
            csr.check_id(id)?;
            within_rate(identities, id.clone(), address).map(drop)
        };
        let (tokens, identities) = (Arc::clone(&self.tokens), Arc::clone(&self.identities));
        let (own, asked) = (token.clone(), csr.clone());
        // Files and flushes: not on a thread that serves others, and there and back only once.
        let asking = tokio::task::spawn_blocking(move || {
            tokens.redeem_if(&own, SystemTime::now(), |id| may(&asked, &identities, id))
        });
        match (asking.await.map_err(|_| Refusal::Stopped)?, &self.shared_tokens) {
            (Err(Refusal::Token(TokenRefusal::Unknown(_))), Some(shared)) => {
                let now = SystemTime::now();
                let may = |id: &SpiffeId| may(csr, &self.identities, id);
                shared_tokens::redeem_if(shared.as_ref(), &token, now, may).await
            }
            (known, _) => known,
        }
    }

    async fn by_consul(&self, leaf: wire::ConsulLeaf, csr: &[u8]) -> Result<SpiffeId, Refusal> {
        let consul = self.consul.as_ref().ok_or(Refusal::NoConsul)?;
        let chain: Vec<_> = leaf.chain.iter().map(|der| CertificateDer::from(der.as_ref())).collect();
        Ok(consul.attest(&leaf.registry, &chain, &leaf.nonce, &leaf.signature, csr).await?)
    }

    async fn by_kubernetes(&self, token: wire::KubernetesToken) -> Result<SpiffeId, Refusal> {
        let kubernetes = self.kubernetes.as_ref().ok_or(Refusal::NoKubernetes)?;
        Ok(kubernetes.attest(&token.registry, &token.token).await?)
    }

    async fn by_nomad(&self, token: wire::NomadToken) -> Result<SpiffeId, Refusal> {
        let nomad = self.nomad.as_ref().ok_or(Refusal::NoNomad)?;
        Ok(nomad.attest(&token.registry, &token.token, &token.node, SystemTime::now()).await?)
    }

    fn refuse(&self, refusal: &Refusal, peer: &PeerIdentity) -> Status {
        self.counts.refused.add(refusal.reason());
        refusal.answer(peer)
    }

    fn answer(&self, issued: Issued) -> wire::IssueResponse {
        let bundle = self.authority.bundle();
        let bytes = |certificate: &CertificateDer<'_>| Bytes::copy_from_slice(certificate);
        wire::IssueResponse {
            chain: issued.chain.iter().map(bytes).collect(),
            bundles: vec![TrustBundle {
                trust_domain: bundle.trust_domain.to_string(),
                roots: bundle.roots.iter().map(bytes).collect(),
            }],
        }
    }
}

#[tonic::async_trait]
impl CertificateAuthority for CaService {
    async fn challenge(
        &self,
        request: Request<wire::ChallengeRequest>,
    ) -> Result<Response<wire::ChallengeResponse>, Status> {
        let peer = peer_of(&request)?;
        let _in_use = peer.connection.begin();
        if !allow(&self.addresses, &peer.remote.ip()) {
            return Err(self.refuse(&Refusal::TooMany, &peer));
        }
        let consul = self.consul.as_ref().ok_or_else(|| self.refuse(&Refusal::NoConsul, &peer))?;
        let nonce = Bytes::copy_from_slice(&consul.challenge(Instant::now()));
        Ok(Response::new(wire::ChallengeResponse { nonce }))
    }

    async fn issue(
        &self,
        request: Request<wire::IssueRequest>,
    ) -> Result<Response<wire::IssueResponse>, Status> {
        let peer = peer_of(&request)?;
        let _in_use = peer.connection.begin();
        if !allow(&self.addresses, &peer.remote.ip()) {
            return Err(self.refuse(&Refusal::TooMany, &peer));
        }
        let request = request.into_inner();
        let attestor = name_of(request.attestation.as_ref());
        match self.attest_and_issue(&peer, request).await {
            Ok((id, issued)) => {
                let until = humantime::format_rfc3339_seconds(issued.not_after);
                tracing::info!(%id, attestor, remote = %peer.remote, %until, "issued a certificate");
                self.counts.issued.add(attestor);
                Ok(Response::new(self.answer(issued)))
            }
            Err(refusal) => Err(self.refuse(&refusal, &peer)),
        }
    }
}

fn within_rate(identities: &Identities, id: SpiffeId, address: IpAddr) -> Result<SpiffeId, Refusal> {
    let key = (id, address);
    if allow(identities, &key) { Ok(key.0) } else { Err(Refusal::TooMany) }
}

/// The identity of the connection's certificate, if that is still valid: a connection may outlive it.
fn by_certificate(peer: &PeerIdentity, now: SystemTime) -> Result<SpiffeId, Refusal> {
    match (&peer.id, peer.not_after) {
        (Some(id), Some(end)) if now <= end => Ok(id.clone()),
        (Some(id), _) => Err(Refusal::CertificateOver(id.clone())),
        (None, _) => Err(Refusal::NoCertificate),
    }
}

/// Why nothing is issued.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Csr(#[from] InvalidCsr),
    #[error("the request holds no attestation")]
    NoAttestation,
    #[error(transparent)]
    Token(#[from] TokenRefusal),
    #[error(transparent)]
    Consul(#[from] ConsulRefusal),
    #[error("no Consul is set up for attestation")]
    NoConsul,
    #[error(transparent)]
    Kubernetes(#[from] KubernetesRefusal),
    #[error("no Kubernetes is set up for attestation")]
    NoKubernetes,
    #[error(transparent)]
    Nomad(#[from] NomadRefusal),
    #[error("no Nomad is set up for attestation")]
    NoNomad,
    #[error("a renewal over a connection without a client certificate")]
    NoCertificate,
    #[error("a renewal over a connection whose certificate of {0} is over")]
    CertificateOver(SpiffeId),
    #[error("too many requests")]
    TooMany,
    #[error(transparent)]
    Issue(#[from] IssueError),
    #[error("the process is stopping")]
    Stopped,
}

impl Refusal {
    /// Logs why, and says as much to the caller as it needs.
    fn answer(&self, peer: &PeerIdentity) -> Status {
        let (remote, id, reason) =
            (peer.remote, peer.id.as_ref().map_or("-", SpiffeId::as_str), describe(self));
        match self {
            Self::Token(TokenRefusal::Used { .. } | TokenRefusal::WrongSecret(_)) => {
                tracing::error!(alarm = true, %remote, id, reason, "ALARM: a join token is misused");
            }
            _ => tracing::warn!(%remote, id, reason, "no certificate was issued"),
        }
        self.status()
    }

    /// As it is counted.
    fn reason(&self) -> &'static str {
        match self {
            Self::Csr(invalid) | Self::Issue(IssueError::Csr(invalid)) => match invalid {
                InvalidCsr::Key(_) => "csr_key",
                InvalidCsr::Signature => "csr_signature",
                InvalidCsr::OtherId { .. } => "csr_other_id",
                InvalidCsr::Asks(_) => "csr_asks",
                InvalidCsr::TooLong(_) | InvalidCsr::Unreadable(_) => "csr_unreadable",
            },
            Self::NoAttestation => "no_attestation",
            Self::Token(TokenRefusal::Invalid(_)) => "token_invalid",
            Self::Token(TokenRefusal::Unknown(_)) => "token_unknown",
            Self::Token(TokenRefusal::WrongSecret(_)) => "token_wrong_secret",
            Self::Token(TokenRefusal::Expired { .. }) => "token_expired",
            Self::Token(TokenRefusal::Used { .. }) => "token_used",
            Self::NoConsul => "consul_not_set_up",
            Self::Consul(ConsulRefusal::Nonce) => "consul_nonce",
            Self::Consul(ConsulRefusal::Signature) => "consul_signature",
            Self::NoCertificate => "no_certificate",
            Self::CertificateOver(_) => "certificate_over",
            Self::TooMany => "too_many",
            Self::Issue(IssueError::ForeignTrustDomain(_) | IssueError::Reserved(_)) => "reserved_id",
            Self::Token(TokenRefusal::Store(_)) | Self::Consul(ConsulRefusal::Roots(_)) => "unavailable",
            Self::Consul(_) => "consul_leaf",
            Self::NoKubernetes => "kubernetes_not_set_up",
            Self::Kubernetes(refusal) => refusal.reason(),
            Self::NoNomad => "nomad_not_set_up",
            Self::Nomad(refusal) => refusal.reason(),
            Self::Issue(_) | Self::Stopped => "unavailable",
        }
    }

    fn status(&self) -> Status {
        match self {
            Self::Csr(InvalidCsr::OtherId { .. })
            | Self::Issue(IssueError::Csr(InvalidCsr::OtherId { .. })) => not_attested(),
            Self::Csr(_) | Self::Issue(IssueError::Csr(_)) => {
                Status::invalid_argument("the certificate signing request can't be used")
            }
            Self::NoAttestation => Status::invalid_argument("an attestation is needed"),
            Self::TooMany => Status::resource_exhausted("too many requests"),
            Self::NoConsul => Status::failed_precondition("no Consul attests here"),
            Self::NoKubernetes => Status::failed_precondition("no Kubernetes attests here"),
            Self::NoNomad => Status::failed_precondition("no Nomad attests here"),
            Self::Token(TokenRefusal::Store(_))
            | Self::Consul(ConsulRefusal::Roots(_))
            | Self::Kubernetes(KubernetesRefusal::Unavailable(_))
            | Self::Nomad(NomadRefusal::Unavailable(_))
            | Self::Stopped => Status::unavailable("try again later"),
            Self::Issue(IssueError::ForeignTrustDomain(_) | IssueError::Reserved(_)) => not_attested(),
            Self::Issue(_) => Status::unavailable("try again later"),
            Self::Token(_)
            | Self::Consul(_)
            | Self::Kubernetes(_)
            | Self::Nomad(_)
            | Self::NoCertificate
            | Self::CertificateOver(_) => not_attested(),
        }
    }
}

fn not_attested() -> Status {
    Status::permission_denied("not attested")
}

fn name_of(attestation: Option<&Attestation>) -> &'static str {
    match attestation {
        Some(Attestation::JoinToken(_)) => "join_token",
        Some(Attestation::ConsulLeaf(_)) => "consul",
        Some(Attestation::KubernetesToken(_)) => "kubernetes",
        Some(Attestation::NomadToken(_)) => "nomad",
        Some(Attestation::Renewal(_)) => "renewal",
        None => "none",
    }
}

fn peer_of<T>(request: &Request<T>) -> Result<PeerIdentity, Status> {
    // Missing only if the service is mounted over another transport than ours.
    request
        .extensions()
        .get()
        .cloned()
        .ok_or_else(|| Status::internal("this connection has no peer identity"))
}

fn allow<K: std::hash::Hash + Eq + Clone>(buckets: &Mutex<Buckets<K>>, key: &K) -> bool {
    buckets.lock().unwrap_or_else(PoisonError::into_inner).allow(key, Instant::now())
}

/// A request of 16 kB, and a Consul chain of 8 certificates.
const LARGEST_REQUEST: usize = 64 * 1024;

#[cfg(test)]
mod tests;
