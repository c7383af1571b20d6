//! Join tokens that the control planes of a cluster share: a Secret, which the user's own rights read and write.
//!
//! No control plane is asked: its admin port is of one replica and only reads, and who may make Secrets beside the mesh's root
//! may do this as well. What a token needs to know of the mesh, root and trust domain, is in the root's certificate.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use weft_control_api::{TokenCreated, TokenState, TokenView, identity};
use weft_identity::{JoinToken, RootPin, SHARED_TOKENS, StoredToken, certificates_from_pem, domain_of_root};
use weft_model::TrustDomain;

use crate::cluster::{self, Cluster};
use crate::output;

/// The Secret.
pub(super) struct SharedTokens {
    cluster: Cluster,
    namespace: String,
}

impl SharedTokens {
    /// Of the control planes in this namespace of the current cluster.
    pub(super) async fn open(namespace: &str) -> Result<Self> {
        weft_identity::install_crypto_provider();
        let cluster = Cluster::open(&cluster::kubeconfig(None)?, None).await?;
        Ok(Self { cluster, namespace: namespace.to_owned() })
    }

    /// Makes one.
    pub(super) async fn create(&self, wanted: &str, ttl: Duration, now: SystemTime) -> Result<TokenCreated> {
        let (pin, domain) = self.root().await?;
        let identity = identity(wanted, &domain).map_err(anyhow::Error::msg)?;
        let token = JoinToken::random(pin);
        let stored = StoredToken::new(&token, &identity, ttl, now)?;
        let mut data: BTreeMap<String, Value> = self
            .read()
            .await?
            .into_iter()
            .filter(|(_, kept)| kept.as_ref().is_ok_and(|kept| kept.is_forgotten(now)))
            .map(|(id, _)| (id, Value::Null))
            .collect();
        data.insert(token.id().to_owned(), STANDARD.encode(serde_json::to_string(&stored)?).into());
        self.write(&json!({ "data": data })).await?;
        Ok(TokenCreated { token: token.to_string(), view: view(token.id(), &stored, now) })
    }

    /// All that are remembered. What is damaged is said on standard error.
    pub(super) async fn list(&self, now: SystemTime) -> Result<Vec<TokenView>> {
        let mut views = Vec::new();
        for (id, kept) in self.read().await? {
            match kept {
                Ok(kept) => views.push(view(&id, &kept, now)),
                Err(why) => {
                    eprintln!("weft: token {}: {why}; revoke it and make another", output::printable(&id))
                }
            }
        }
        Ok(views)
    }

    /// Makes one unusable.
    pub(super) async fn revoke(&self, id: &str) -> Result<()> {
        match self.read().await?.get(id) {
            None => bail!("token {id} is not known here; `weft token list` shows them"),
            Some(Ok(kept)) if kept.used => bail!("token {id} was used; {} has joined with it", kept.identity),
            Some(_) => self.write(&json!({ "data": { id: null } })).await,
        }
    }

    /// The root that the control plane presents, and the trust domain that it is for.
    async fn root(&self) -> Result<(RootPin, TrustDomain)> {
        let secret = self.get("weft-ca").await?.with_context(|| {
            format!(
                "no Secret weft-ca in namespace {}: is a control plane there? --control kubernetes:NAMESPACE names another. One with \
                 certificates of your own (ca.own_pem) shares no tokens",
                self.namespace
            )
        })?;
        let pem = secret["data"]["root.pem"].as_str().context("Secret weft-ca has no root.pem")?;
        let pem = String::from_utf8(STANDARD.decode(pem)?).context("Secret weft-ca: root.pem is not text")?;
        let certificates = certificates_from_pem(&pem).context("Secret weft-ca: root.pem")?;
        let root = certificates.first().context("Secret weft-ca: root.pem has no certificate")?;
        let domain = domain_of_root(root).context("Secret weft-ca: root.pem names no trust domain")?;
        Ok((RootPin::of(root), domain))
    }

    async fn read(&self) -> Result<BTreeMap<String, Result<StoredToken, String>>> {
        let Some(mut secret) = self.get(SHARED_TOKENS).await? else { return Ok(BTreeMap::new()) };
        let data: Option<BTreeMap<String, String>> = serde_json::from_value(secret["data"].take())
            .with_context(|| format!("Secret {SHARED_TOKENS}"))?;
        Ok(data.unwrap_or_default().into_iter().map(|(id, text)| (id, stored(&text))).collect())
    }

    async fn get(&self, name: &str) -> Result<Option<Value>> {
        match self.cluster.get(&format!("{}/{name}", self.secrets())).await {
            Ok(secret) => Ok(Some(secret)),
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn write(&self, patch: &Value) -> Result<()> {
        let path = format!("{}/{SHARED_TOKENS}", self.secrets());
        match self.cluster.patch(&path, patch).await {
            Err(error) if error.status() == Some(404) => {}
            patched => return Ok(patched.map(drop)?),
        }
        let mut secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": SHARED_TOKENS, "labels": { "app.kubernetes.io/part-of": "weft" } },
            "type": "weft.dev/join-tokens",
        });
        secret["data"] = patch["data"].clone();
        match self.cluster.create(&self.secrets(), &secret).await {
            // Somebody else made it meanwhile.
            Err(error) if error.status() == Some(409) => {
                Ok(self.cluster.patch(&path, patch).await.map(drop)?)
            }
            made => Ok(made.map(drop)?),
        }
    }

    fn secrets(&self) -> String {
        format!("/api/v1/namespaces/{}/secrets", self.namespace)
    }
}

fn stored(text: &str) -> Result<StoredToken, String> {
    let bytes = STANDARD.decode(text).map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| format!("what is kept of it is damaged: {error}"))
}

fn view(id: &str, kept: &StoredToken, now: SystemTime) -> TokenView {
    let expires = kept.expires().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let state = match kept.state(now) {
        weft_identity::TokenState::Used => TokenState::Used,
        weft_identity::TokenState::Expired => TokenState::Expired,
        weft_identity::TokenState::Unused => TokenState::Unused,
    };
    TokenView {
        id: id.to_owned(),
        identity: kept.identity.to_string(),
        expires_unix_ms: u64::try_from(expires.as_millis()).unwrap_or(u64::MAX),
        state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_shown_with_its_state_and_what_is_damaged_is_no_token() {
        let (token, now) = (JoinToken::random("ab".repeat(32).parse().unwrap()), SystemTime::now());
        let web = "spiffe://weft.test/ns/shop/sa/web".parse().unwrap();
        let mut kept = StoredToken::new(&token, &web, Duration::from_secs(60), now).unwrap();
        let text = STANDARD.encode(serde_json::to_string(&kept).unwrap());
        assert_eq!(stored(&text).as_ref(), Ok(&kept));
        let state = |kept: &StoredToken, now| view("a", kept, now).state;
        assert_eq!(state(&kept, now), TokenState::Unused);
        assert_eq!(state(&kept, now + Duration::from_secs(61)), TokenState::Expired);
        kept.used = true;
        assert_eq!(state(&kept, now + Duration::from_secs(61)), TokenState::Used);
        for bad in ["", "%", "e30="] {
            assert!(stored(bad).is_err(), "{bad} was taken");
        }
    }
}
