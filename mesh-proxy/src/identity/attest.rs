//! The three ways to a certificate: join token, Consul leaf, and the current certificate.
//!
//! Each control plane is tried in turn; the error names them all, since the first one's reason is rarely the one
//! that matters.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls::ClientConfig;
use weft_identity::{CONTROL_PLANE_PATH, RootPin, certificates_from_pem, pinned_client_config};
use weft_model::SpiffeId;
use weft_proto::ca::v1::issue_request::Attestation;
use weft_proto::ca::v1::{JoinToken, Renewal};

use super::authority::{Authority, Issuance, Issued};
use super::consul::{self, Leaf};
use super::token;
use crate::settings::{ConsulAttestation, JoinTokenSource};
use crate::shared::Shared;

/// gRPC is HTTP/2.
const ALPN: &[&[u8]] = &[b"h2"];

/// What is shown to a control plane.
enum Proof<'a> {
    Token(String),
    Consul(&'a ConsulAttestation, Leaf),
    /// The TLS client certificate of the connection itself.
    Current,
}

impl Proof<'_> {
    async fn issue(&self, authority: &mut Authority, csr: Vec<u8>) -> Result<Issuance> {
        let attestation = match self {
            Self::Token(token) => Attestation::JoinToken(JoinToken { token: token.clone() }),
            Self::Current => Attestation::Renewal(Renewal {}),
            Self::Consul(settings, leaf) => {
                let nonce = authority.challenge().await?;
                Attestation::ConsulLeaf(leaf.prove(settings, &nonce, &csr)?)
            }
        };
        authority.issue(csr, attestation).await
    }
}

/// Proves by the settings what this proxy is.
pub(super) async fn attest(shared: &Shared) -> Result<Issued> {
    let identity = &shared.settings.identity;
    if let Some(source) = identity.join_token() {
        return by_token(shared, &source).await;
    }
    if let Some(settings) = &identity.consul {
        let tls = first_contact(shared, None)?;
        let leaf = consul::leaf(settings).await?;
        return each_control_plane(shared, &tls, None, Proof::Consul(settings, leaf)).await;
    }
    bail!(
        "there is no valid certificate in the state directory and no way to obtain one: \
         set identity.join_token, identity.join_token_file or [identity.consul]"
    )
}

async fn by_token(shared: &Shared, source: &JoinTokenSource) -> Result<Issued> {
    let token = token::read(source)?;
    let tls = first_contact(shared, token::pin(&token)?)?;
    let issued = each_control_plane(shared, &tls, None, Proof::Token(token)).await;
    if shared.svids.current().is_none() {
        return issued;
    }
    issued.context(
        "the certificate has expired and a join token is good for one certificate; \
         create a new one with `weft token create`",
    )
}

/// Renews by the current certificate.
pub(super) async fn renew(shared: &Shared) -> Result<Issued> {
    let credentials = shared.svids.current().context("there is no certificate to renew")?;
    let id = credentials.svid.id();
    let control: SpiffeId = format!("spiffe://{}{CONTROL_PLANE_PATH}", id.trust_domain()).parse()?;
    let tls = credentials.client_config(&control, ALPN)?;
    let issued = each_control_plane(shared, &tls, Some(id), Proof::Current).await?;
    if issued.svid.id() != id {
        bail!("the control plane renewed {id} as {}", issued.svid.id());
    }
    Ok(issued)
}

/// The first control plane that issues wins.
async fn each_control_plane(
    shared: &Shared,
    tls: &Arc<ClientConfig>,
    id: Option<&SpiffeId>,
    proof: Proof<'_>,
) -> Result<Issued> {
    let mut failures = Vec::new();
    for address in shared.settings.control.endpoints() {
        let attempt = async {
            let mut authority = Authority::connect(&address, tls.clone()).await?;
            let (key, csr) = weft_identity::new_key_and_csr(id)?;
            proof.issue(&mut authority, csr).await?.accept(key)
        };
        match attempt.await {
            Ok(issued) => return Ok(issued),
            Err(error) => failures.push(format!("{address}: {error:#}")),
        }
    }
    if failures.is_empty() {
        bail!("control.addresses is empty");
    }
    bail!("{}", failures.join("; "))
}

/// TLS before there is a certificate: by pins, of the token, the settings, or the roots that are known.
fn first_contact(shared: &Shared, token: Option<RootPin>) -> Result<Arc<ClientConfig>> {
    let control = &shared.settings.control;
    let mut pins: Vec<RootPin> = token.into_iter().collect();
    for pin in &control.root_sha256 {
        pins.push(pin.parse().context("control.root_sha256")?);
    }
    if let Some(path) = &control.bundle {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("control.bundle {}", path.display()))?;
        let roots =
            certificates_from_pem(&text).with_context(|| format!("control.bundle {}", path.display()))?;
        pins.extend(roots.iter().map(RootPin::of));
    }
    if pins.is_empty() {
        bail!("nothing says which control plane to trust: set control.root_sha256 or control.bundle");
    }
    Ok(pinned_client_config(&pins, CONTROL_PLANE_PATH, ALPN)?)
}
