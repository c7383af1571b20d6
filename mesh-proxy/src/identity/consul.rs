//! Consul as witness: the local agent gives this service's Connect leaf, and its key signs the control plane's nonce.
//!
//! Neither the ACL token nor the leaf's key leaves this host. What is signed is bound to the nonce (no replay) and
//! to the CSR (no other key gets certified by it).

use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use weft_identity::{certificates_from_pem, key_from_pem, sign_consul_attestation};
use weft_proto::ca::v1::ConsulLeaf;

use crate::settings::ConsulAttestation;

/// An agent answers from memory; the first leaf of a service takes a round to its servers.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A Connect leaf with its key.
pub(super) struct Leaf {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// The part of the agent's answer that matters.
#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "CertPEM")]
    certificate: String,
    #[serde(rename = "PrivateKeyPEM")]
    key: String,
}

/// Asks the agent for the service's leaf.
pub(super) async fn leaf(settings: &ConsulAttestation) -> Result<Leaf> {
    let base = settings.address.trim_end_matches('/');
    // Names are safe in a URL: the model's grammar allows nothing that needs encoding.
    let namespace = settings.namespace.as_ref().map_or(String::new(), |namespace| format!("?ns={namespace}"));
    let url = format!("{base}/v1/agent/connect/ca/leaf/{}{namespace}", settings.service);
    let mut request = client(settings)?.get(url);
    if let Some(path) = &settings.token_file {
        let token = std::fs::read_to_string(path)
            .with_context(|| format!("identity.consul.token_file {}", path.display()))?;
        request = request.header("X-Consul-Token", token.trim());
    }
    let asking = || {
        format!(
            "asking the Consul agent {base} (identity.consul.address) for the leaf of {}",
            settings.service
        )
    };
    let response = request.send().await.with_context(asking)?;
    let status = response.status();
    if status == 403 {
        bail!(
            "{}: it refused with 403; identity.consul.token_file needs service:write on {}",
            asking(),
            settings.service
        );
    }
    let body = response.text().await.with_context(asking)?;
    if !status.is_success() {
        let shown: String = body.chars().filter(|c| !c.is_control()).take(200).collect();
        bail!("{}: it answered {status}: {shown}", asking());
    }
    let answer: Answer = serde_json::from_str(&body).with_context(asking)?;
    Leaf::of(&answer.certificate, &answer.key).with_context(asking)
}

fn client(settings: &ConsulAttestation) -> Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder().timeout(TIMEOUT).no_proxy();
    if let Some(path) = &settings.ca_file {
        let named = || format!("identity.consul.ca_file {}", path.display());
        let pem = std::fs::read(path).with_context(named)?;
        builder = builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem).with_context(named)?);
    }
    Ok(builder.build()?)
}

impl Leaf {
    fn of(certificate: &str, key: &str) -> Result<Self> {
        Ok(Self { chain: certificates_from_pem(certificate)?, key: key_from_pem(key)? })
    }

    /// Signs `nonce` for `csr`.
    pub(super) fn prove(&self, settings: &ConsulAttestation, nonce: &[u8], csr: &[u8]) -> Result<ConsulLeaf> {
        let signature = sign_consul_attestation(&self.key, nonce, csr)?;
        Ok(ConsulLeaf {
            registry: settings.registry.as_str().to_owned(),
            chain: self.chain.iter().map(|der| der.to_vec().into()).collect(),
            nonce: nonce.to_vec().into(),
            signature: signature.into(),
        })
    }
}
