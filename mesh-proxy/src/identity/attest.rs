//! The ways to a certificate: join token, Consul leaf, a pod's or an allocation's token, and the current
//! certificate.
//!
//! Each control plane is tried in turn; the error names them all, since the first one's reason is rarely the one
//! that matters.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use rustls::ClientConfig;
use weft_identity::{CONTROL_PLANE_PATH, JoinToken, RootPin, certificates_from_pem, pinned_client_config};
use weft_model::SpiffeId;
use weft_proto::ca::v1 as wire;
use weft_proto::ca::v1::issue_request::Attestation;

use super::authority::{Authority, Issuance, Issued, Refused};
use super::consul::{self, Leaf};
use super::{kubernetes, nomad, token};
use crate::settings::{ConsulAttestation, JoinTokenSource, KubernetesAttestation, NomadAttestation};
use crate::shared::Shared;
use crate::state::{JOINED, StateDir};

/// gRPC is HTTP/2.
const ALPN: &[&[u8]] = &[b"h2"];

/// What is shown to a control plane.
enum Proof<'a> {
    Token(&'a JoinToken),
    Consul(&'a ConsulAttestation, Leaf),
    Kubernetes(&'a wire::KubernetesToken),
    Nomad(&'a wire::NomadToken),
    /// The TLS client certificate of the connection itself.
    Current,
}

impl Proof<'_> {
    async fn issue(&self, authority: &mut Authority, csr: Vec<u8>) -> Result<Issuance> {
        let attestation = match self {
            Self::Token(token) => Attestation::JoinToken(wire::JoinToken { token: token.to_string() }),
            Self::Kubernetes(token) => Attestation::KubernetesToken((*token).clone()),
            Self::Nomad(token) => Attestation::NomadToken((*token).clone()),
            Self::Current => Attestation::Renewal(wire::Renewal {}),
            Self::Consul(settings, leaf) => {
                let nonce = authority.challenge().await?;
                Attestation::ConsulLeaf(leaf.prove(settings, &nonce, &csr)?)
            }
        };
        authority.issue(csr, attestation).await
    }
}

/// What each control plane said when none issued.
#[derive(Debug, thiserror::Error)]
#[error("{}", .failures.join("; "))]
struct NotIssued {
    failures: Vec<String>,
    /// How many of them looked at the proof and refused it.
    refused: usize,
}

/// Obtains certificates for this proxy.
pub(super) struct Attestor<'a> {
    shared: &'a Shared,
    state: &'a StateDir,
    /// The id of a join token that every control plane refused, and what they said.
    refused_token: Option<(String, String)>,
}

impl<'a> Attestor<'a> {
    pub(super) fn new(shared: &'a Shared, state: &'a StateDir) -> Self {
        Self { shared, state, refused_token: None }
    }

    /// Proves by the settings what this proxy is.
    pub(super) async fn attest(&mut self) -> Result<Issued> {
        let identity = &self.shared.settings.identity;
        if let Some(source) = identity.join_token() {
            return self.by_token(&source).await;
        }
        match self.by_witness().await {
            Some(attested) => attested,
            None => bail!(
                "there is no valid certificate in the state directory and no way to obtain one: set \
                 identity.join_token, identity.join_token_file, [identity.consul], [identity.kubernetes] or [identity.nomad]"
            ),
        }
    }

    /// By what can be asked again and again, where the settings name one.
    async fn by_witness(&self) -> Option<Result<Issued>> {
        let identity = &self.shared.settings.identity;
        match (&identity.consul, &identity.kubernetes, &identity.nomad) {
            (Some(settings), ..) => Some(self.by_consul(settings).await),
            (_, Some(settings), _) => Some(self.by_kubernetes(settings).await),
            (.., Some(settings)) => Some(self.by_nomad(settings).await),
            (None, None, None) => None,
        }
    }

    /// Renews by the current certificate. Where the control plane refuses it, the witness is asked at once and not
    /// when the certificate has expired.
    pub(super) async fn renew(&self) -> Result<Issued> {
        let error = match self.by_certificate().await {
            Ok(issued) => return Ok(issued),
            Err(error) => error,
        };
        let refused = error.downcast_ref::<NotIssued>().is_some_and(|error| error.refused > 0);
        if !refused {
            return Err(error);
        }
        match self.by_witness().await {
            Some(attested) => {
                attested.map_err(|again| anyhow!("{error:#}; and then, attesting anew: {again:#}"))
            }
            None => Err(error),
        }
    }

    async fn by_certificate(&self) -> Result<Issued> {
        let credentials = self.shared.svids.current().context("there is no certificate to renew")?;
        let id = credentials.svid.id();
        let control: SpiffeId = format!("spiffe://{}{CONTROL_PLANE_PATH}", id.trust_domain()).parse()?;
        let tls = credentials.client_config(&control, ALPN)?;
        let issued = self.each_control_plane(&tls, Some(id), Proof::Current).await?;
        if issued.svid.id() != id {
            bail!("the control plane renewed {id} as {}", issued.svid.id());
        }
        Ok(issued)
    }

    async fn by_consul(&self, settings: &ConsulAttestation) -> Result<Issued> {
        let tls = first_contact(&known_roots(self.shared)?)?;
        let leaf = consul::leaf(settings).await?;
        Ok(self.each_control_plane(&tls, None, Proof::Consul(settings, leaf)).await?)
    }

    async fn by_kubernetes(&self, settings: &KubernetesAttestation) -> Result<Issued> {
        let tls = first_contact(&known_roots(self.shared)?)?;
        let token = kubernetes::proof(settings)?;
        Ok(self.each_control_plane(&tls, None, Proof::Kubernetes(&token)).await?)
    }

    async fn by_nomad(&self, settings: &NomadAttestation) -> Result<Issued> {
        let tls = first_contact(&known_roots(self.shared)?)?;
        let token = nomad::proof(settings)?;
        Ok(self.each_control_plane(&tls, None, Proof::Nomad(&token)).await?)
    }

    /// A token that was used or refused is not sent again: that can't succeed, and is an alarm at the control plane.
    async fn by_token(&mut self, source: &JoinTokenSource) -> Result<Issued> {
        let next = format!("create a new one with `weft token create` and set it as {source}");
        let token = token::read(source)?;
        if self.state.read(JOINED)?.is_some_and(|used| used.trim() == token.id()) {
            bail!("this proxy has used its join token, which is good for one certificate; {next}");
        }
        if let Some((_, why)) = self.refused_token.as_ref().filter(|(id, _)| id == token.id()) {
            bail!("{why}");
        }
        let tls = first_contact(&[token.pin()])?;
        match self.each_control_plane(&tls, None, Proof::Token(&token)).await {
            Ok(issued) => {
                if let Err(error) = self.state.write(JOINED, token.id().as_bytes()) {
                    tracing::error!("the join token is used up, but a restart will not know: {error}");
                }
                Ok(issued)
            }
            Err(error) if error.refused == error.failures.len() => {
                let why = format!("{error}; a join token is good once and for a limited time: {next}");
                self.refused_token = Some((token.id().to_owned(), why.clone()));
                bail!("{why}")
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The first control plane that issues wins.
    async fn each_control_plane(
        &self,
        tls: &Arc<ClientConfig>,
        id: Option<&SpiffeId>,
        proof: Proof<'_>,
    ) -> Result<Issued, NotIssued> {
        let mut not_issued = NotIssued { failures: Vec::new(), refused: 0 };
        for address in self.shared.settings.control.endpoints() {
            let attempt = async {
                let mut authority = Authority::connect(&address, tls.clone()).await?;
                let (key, csr) = weft_identity::new_key_and_csr(id)?;
                proof.issue(&mut authority, csr).await?.accept(key)
            };
            match attempt.await {
                Ok(issued) => return Ok(issued),
                Err(error) => {
                    not_issued.refused += usize::from(error.is::<Refused>());
                    not_issued.failures.push(format!("{address}: {error:#}"));
                }
            }
        }
        Err(not_issued)
    }
}

/// TLS without a certificate of our own.
fn first_contact(pins: &[RootPin]) -> Result<Arc<ClientConfig>> {
    if pins.is_empty() {
        bail!(
            "nothing says which control plane to trust: set control.root_sha256 (`weft status` shows it) or control.bundle"
        );
    }
    Ok(pinned_client_config(pins, CONTROL_PLANE_PATH, ALPN)?)
}

/// The pins that the settings give, and those of the roots that were trusted before: a root may have been replaced since
/// the settings were written.
fn known_roots(shared: &Shared) -> Result<Vec<RootPin>> {
    let control = &shared.settings.control;
    let mut pins = Vec::new();
    for pin in &control.root_sha256 {
        pins.push(pin.parse().context("control.root_sha256")?);
    }
    if let Some(path) = &control.bundle {
        let named = || format!("control.bundle {}", path.display());
        let text = std::fs::read_to_string(path).with_context(named)?;
        pins.extend(certificates_from_pem(&text).with_context(named)?.iter().map(RootPin::of));
    }
    if let Some(credentials) = shared.svids.current()
        && let Some(own) = credentials.bundles.get(&credentials.svid.id().trust_domain())
    {
        pins.extend(own.roots.iter().map(RootPin::of));
    }
    Ok(pins)
}
