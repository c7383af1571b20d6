//! The Consul attestor: a caller that holds the key of a service's Connect leaf is that service.
//!
//! The caller signs our fresh nonce and its request with the leaf's key; nothing secret is handed over. The leaf's
//! chain is checked against the roots of that very datacenter, which are read through [`ConnectRoots`]. The identity is
//! `ns/<namespace>/sa/<service>`, unless the settings map the service to another one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use futures::future::BoxFuture;
use rustls_pki_types::{CertificateDer, UnixTime};
use weft_identity::{TrustBundle, TrustBundles, VerifyError, consul_attestation_message, verify};
use weft_model::{InvalidSpiffeId, RegistryId, ServiceKey, SpiffeId, TrustDomain};
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::consul_id::{ConsulServiceId, NotAConsulService};
use crate::nonces::Nonces;

/// What a datacenter's Connect CA is known by.
#[derive(Debug, Clone)]
pub struct ConnectTrust {
    /// Its trust domain: `<uuid>.consul`.
    pub trust_domain: TrustDomain,
    /// All its roots, old ones included while they rotate.
    pub roots: Vec<CertificateDer<'static>>,
}

/// Why the roots could not be read.
#[derive(Debug, thiserror::Error)]
#[error("reading the Connect roots: {0}")]
pub struct ConnectRootsError(pub String);

/// Reads the roots of a datacenter's Connect CA.
pub trait ConnectRoots: Send + Sync + 'static {
    /// The roots of now.
    fn connect_trust(&self) -> BoxFuture<'_, Result<ConnectTrust, ConnectRootsError>>;
}

/// A datacenter whose leaves are accepted.
pub struct ConsulDatacenter {
    /// The datacenter's name, as its leaves say it.
    pub datacenter: String,
    /// Where its roots are read.
    pub roots: Box<dyn ConnectRoots>,
    /// Services that have another identity than `ns/<namespace>/sa/<service>`.
    pub identities: BTreeMap<ServiceKey, SpiffeId>,
}

/// Why a Consul leaf does not prove an identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsulRefusal {
    /// A registry that is not set up for attestation.
    #[error("registry {0:?} attests nobody here")]
    UnknownRegistry(String),
    /// The nonce was not ours, is older than a minute, or was used.
    #[error("the nonce is not known, over, or used before")]
    Nonce,
    /// More certificates than an honest chain has.
    #[error("the chain has {0} certificates; at most {LONGEST_CHAIN} are allowed")]
    ChainLength(usize),
    /// The leaf or its chain.
    #[error("the Consul leaf: {0}")]
    Leaf(#[from] VerifyError),
    /// Not a service's leaf.
    #[error(transparent)]
    NotAService(#[from] NotAConsulService),
    /// A leaf of another datacenter of the same Connect CA.
    #[error("the leaf is of datacenter {presented:?}, but {registry} is {expected:?}")]
    OtherDatacenter {
        /// The registry that was named.
        registry: RegistryId,
        /// Its datacenter.
        expected: String,
        /// The leaf's.
        presented: String,
    },
    /// Not a P-256 key.
    #[error("the Consul leaf's key is not ECDSA P-256")]
    KeyKind,
    /// The caller does not hold the leaf's key, or signed another request.
    #[error("the signature does not match the Consul leaf's key, the nonce and the request")]
    Signature,
    /// The service's name makes no SPIFFE id.
    #[error(transparent)]
    Id(#[from] InvalidSpiffeId),
    /// Consul did not answer; not the caller's mistake.
    #[error(transparent)]
    Roots(#[from] ConnectRootsError),
}

/// Attests callers by their Consul Connect leaves.
pub struct ConsulAttestor {
    trust_domain: TrustDomain,
    datacenters: BTreeMap<RegistryId, Watched>,
    nonces: Mutex<Nonces>,
}

struct Watched {
    settings: ConsulDatacenter,
    /// What was read last. Held over the reading, so that many callers cause one request.
    cached: tokio::sync::Mutex<Option<Cached>>,
}

#[derive(Clone)]
struct Cached {
    bundles: Arc<TrustBundles>,
    read: tokio::time::Instant,
}

impl ConsulAttestor {
    /// An attestor that issues for `trust_domain`.
    pub fn new(trust_domain: TrustDomain, datacenters: BTreeMap<RegistryId, ConsulDatacenter>) -> Self {
        let watch = |settings| Watched { settings, cached: tokio::sync::Mutex::new(None) };
        let datacenters = datacenters.into_iter().map(|(id, settings)| (id, watch(settings))).collect();
        Self { trust_domain, datacenters, nonces: Mutex::default() }
    }

    /// A fresh nonce.
    pub fn challenge(&self, now: Instant) -> [u8; 32] {
        self.nonces.lock().unwrap_or_else(PoisonError::into_inner).issue(now)
    }

    /// Who the caller is.
    ///
    /// # Errors
    /// Why that is not proven.
    pub async fn attest(
        &self,
        registry: &str,
        chain: &[CertificateDer<'_>],
        nonce: &[u8],
        signature: &[u8],
        csr: &[u8],
    ) -> Result<SpiffeId, ConsulRefusal> {
        let unknown = || ConsulRefusal::UnknownRegistry(registry.chars().take(100).collect());
        let id: RegistryId = registry.parse().map_err(|_| unknown())?;
        let datacenter = self.datacenters.get(&id).ok_or_else(unknown)?;
        if chain.len() > LONGEST_CHAIN {
            return Err(ConsulRefusal::ChainLength(chain.len()));
        }
        // Before all that costs something; a failed attempt uses the nonce up.
        if !self.nonces.lock().unwrap_or_else(PoisonError::into_inner).take(nonce, Instant::now()) {
            return Err(ConsulRefusal::Nonce);
        }
        let leaf = datacenter.verify(chain, SystemTime::now()).await?;
        check_signature(chain, nonce, signature, csr)?;
        let service = ConsulServiceId::try_from(&leaf)?;
        if service.datacenter != datacenter.settings.datacenter {
            let (expected, presented) = (datacenter.settings.datacenter.clone(), service.datacenter);
            return Err(ConsulRefusal::OtherDatacenter { registry: id, expected, presented });
        }
        match datacenter.settings.identities.get(&service.service) {
            Some(identity) => Ok(identity.clone()),
            None => {
                let ServiceKey { namespace, name } = &service.service;
                Ok(SpiffeId::of_service_account(&self.trust_domain, namespace, name.as_str())?)
            }
        }
    }
}

impl Watched {
    /// Checks the chain; reads the roots again if none of those known signed it.
    async fn verify(&self, chain: &[CertificateDer<'_>], now: SystemTime) -> Result<SpiffeId, ConsulRefusal> {
        let time = UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
        let known = self.bundles(FRESH).await?;
        match verify(chain, &known, time) {
            Err(VerifyError::UnknownIssuer { .. } | VerifyError::ForeignTrustDomain { .. }) => {
                // The CA may just have rotated, or been replaced.
                let newer = self.bundles(JUST_READ).await?;
                Ok(verify(chain, &newer, time)?)
            }
            result => Ok(result?),
        }
    }

    /// The roots, not older than `age` if Consul answers, and not older than an hour if it does not.
    async fn bundles(&self, age: Duration) -> Result<Arc<TrustBundles>, ConsulRefusal> {
        let mut cached = self.cached.lock().await;
        if let Some(known) = cached.as_ref().filter(|known| known.read.elapsed() < age) {
            return Ok(Arc::clone(&known.bundles));
        }
        match self.read().await {
            Ok(bundles) => {
                let bundles = Arc::new(bundles);
                *cached = Some(Cached { bundles: Arc::clone(&bundles), read: tokio::time::Instant::now() });
                Ok(bundles)
            }
            Err(error) => match cached.as_ref().filter(|known| known.read.elapsed() < LAST_KNOWN_GOOD) {
                Some(known) => {
                    tracing::warn!(%error, "Consul does not answer; its last known Connect roots are used");
                    Ok(Arc::clone(&known.bundles))
                }
                None => Err(error.into()),
            },
        }
    }

    async fn read(&self) -> Result<TrustBundles, ConnectRootsError> {
        let reading = tokio::time::timeout(READ_TIMEOUT, self.settings.roots.connect_trust()).await;
        let trust = reading.map_err(|_| ConnectRootsError("Consul did not answer in 5 s".to_owned()))??;
        let bundle = TrustBundle::new(trust.trust_domain, trust.roots);
        Ok(TrustBundles::from_iter([bundle.map_err(|error| ConnectRootsError(error.to_string()))?]))
    }
}

impl fmt::Debug for ConsulAttestor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.datacenters.keys()).finish()
    }
}

fn check_signature(
    chain: &[CertificateDer<'_>],
    nonce: &[u8],
    signature: &[u8],
    csr: &[u8],
) -> Result<(), ConsulRefusal> {
    let leaf = chain.first().and_then(|leaf| X509Certificate::from_der(leaf).ok());
    let (_, leaf) = leaf.ok_or(ConsulRefusal::KeyKind)?;
    let key = leaf.public_key();
    let curve = key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    if key.algorithm.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY || curve.is_none_or(|curve| curve != OID_EC_P256)
    {
        return Err(ConsulRefusal::KeyKind);
    }
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.subject_public_key.data.as_ref());
    let message = consul_attestation_message(nonce, csr);
    key.verify(&message, signature).map_err(|_| ConsulRefusal::Signature)
}

/// Consul's own chains have at most leaf, intermediate and a cross-signed root.
const LONGEST_CHAIN: usize = 8;
/// Roots change by hand, perhaps once a year.
const FRESH: Duration = Duration::from_secs(30);
/// A caller with a foreign leaf must not make us ask Consul each time.
const JUST_READ: Duration = Duration::from_secs(2);
/// A Consul that is down must not stop services that it attested before; a root that it dropped must not live on.
const LAST_KNOWN_GOOD: Duration = Duration::from_secs(3600);
const READ_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
