//! Certificates: by join token as at a first start, and by renewal, each on a connection of its own as a proxy asks.
//!
//! Keys and requests are made beforehand, so that the load does not make them while it is measured. What comes back is held
//! against the key and the identity, and the first of each client against the trust bundle.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use prost::Message as _;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use tokio::task::JoinSet;
use weft_identity::{
    CONTROL_PLANE_PATH, Credentials, JoinToken, Svid, TrustBundle, TrustBundles, pinned_client_config,
};
use weft_model::SpiffeId;
use weft_proto::ca::v1::issue_request::Attestation;
use weft_proto::ca::v1::{self as wire_ca, IssueRequest, IssueResponse};

use super::wire::{self, Counts, Messages};
use super::world::{TRUST_DOMAIN, World};

const ISSUE: &str = "/weft.ca.v1.CertificateAuthority/Issue";

/// A client's credentials.
pub(super) struct Member {
    pub(super) account: String,
    pub(super) credentials: Credentials,
}

/// A key and its request, made ahead.
pub(super) struct Prepared {
    account: String,
    token: Option<String>,
    tls: Arc<ClientConfig>,
    key: PrivatePkcs8KeyDer<'static>,
    csr: Vec<u8>,
}

impl Member {
    /// TLS to the control plane and nobody else.
    pub(super) fn tls(&self) -> Result<Arc<ClientConfig>> {
        let control: SpiffeId = format!("spiffe://{TRUST_DOMAIN}{CONTROL_PLANE_PATH}").parse()?;
        Ok(self.credentials.client_config(&control, &[b"h2"])?)
    }

    /// The name that a proxy of this member gives itself.
    pub(super) fn node(&self, instance: usize) -> String {
        format!("{}~{instance}", self.credentials.svid.id())
    }

    /// The next renewal of this member.
    pub(super) fn renewal(&self) -> Result<Prepared> {
        let id = self.credentials.svid.id();
        let (key, csr) = weft_identity::new_key_and_csr(Some(id))?;
        Ok(Prepared { account: self.account.clone(), token: None, tls: self.tls()?, key, csr })
    }
}

/// A join by a fresh token.
pub(super) async fn join(world: &World, account: &str) -> Result<Prepared> {
    let token = world.token(account).await?;
    let parsed: JoinToken = token.parse()?;
    let tls = pinned_client_config(&[parsed.pin()], CONTROL_PLANE_PATH, &[b"h2"])?;
    let (key, csr) = weft_identity::new_key_and_csr(None)?;
    Ok(Prepared { account: account.to_owned(), token: Some(token), tls, key, csr })
}

/// Issues all of them, `at_once` at a time.
pub(super) async fn issue_all(
    address: SocketAddr,
    prepared: Vec<Prepared>,
    at_once: usize,
) -> Result<Vec<Member>> {
    let (mut waiting, mut running, mut members) = (prepared.into_iter(), JoinSet::new(), Vec::new());
    for one in waiting.by_ref().take(at_once) {
        running.spawn(issue(address, one));
    }
    while let Some(done) = running.join_next().await {
        members.push(done??);
        if let Some(one) = waiting.next() {
            running.spawn(issue(address, one));
        }
    }
    Ok(members)
}

async fn issue(address: SocketAddr, prepared: Prepared) -> Result<Member> {
    let Prepared { account, token, tls, key, csr } = prepared;
    let attestation = match token {
        Some(token) => Attestation::JoinToken(wire_ca::JoinToken { token }),
        None => Attestation::Renewal(wire_ca::Renewal {}),
    };
    let first = matches!(attestation, Attestation::JoinToken(_));
    let request = IssueRequest { csr: csr.into(), attestation: Some(attestation) };
    let response = unary(address, tls, &request).await.with_context(|| format!("issuing for {account}"))?;
    let credentials = accept(response, key, first)?;
    let expected = format!("spiffe://{TRUST_DOMAIN}/ns/default/sa/{account}");
    ensure!(credentials.svid.id().as_str() == expected, "{} and not {expected}", credentials.svid.id());
    Ok(Member { account, credentials })
}

async fn unary(address: SocketAddr, tls: Arc<ClientConfig>, request: &IssueRequest) -> Result<IssueResponse> {
    let counts = Counts::default();
    let (mut send, connection) = wire::connect(address, tls, &counts).await?;
    let exchange = async {
        let (response, mut requests) = wire::call(&mut send, ISSUE)?;
        wire::send(&mut requests, request, true)?;
        let mut messages = Messages::of(response.await?)?;
        Ok(IssueResponse::decode(messages.next(&counts).await?)?)
    };
    tokio::select! {
        done = exchange => done,
        ended = connection => anyhow::bail!("the connection ended: {ended:?}"),
    }
}

/// The key is the certificate's and the certificate an SVID; `fully`: and its chain ends at the bundle.
fn accept(response: IssueResponse, key: PrivatePkcs8KeyDer<'static>, fully: bool) -> Result<Credentials> {
    let chain = response.chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    let mut bundles = TrustBundles::default();
    for bundle in response.bundles {
        let roots = bundle.roots.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
        bundles.insert(TrustBundle::new(bundle.trust_domain.parse()?, roots)?);
    }
    let svid = Svid::from_der(chain, PrivateKeyDer::Pkcs8(key))?;
    if fully {
        weft_identity::verify(svid.chain(), &bundles, UnixTime::now())?;
    }
    Ok(Credentials::new(Arc::new(svid), Arc::new(bundles), 1))
}
