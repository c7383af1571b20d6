//! The authority of one trust domain: it signs leaves and knows the trust bundle.
//!
//! Its keys are its own, made on first start in a state directory, or the user's PEM. Either way a leaf is issued
//! and verified before the authority exists: what does not fit together is found at start, by file, and not by peers.

mod rotate;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use serde::Deserialize;
use weft_identity::{CONTROL_PLANE_PATH, RootPin, Svid, TrustBundle, new_key_and_csr};
use weft_model::{SpiffeId, TrustDomain};

use crate::csr::Csr;
use crate::issuing::{AuthorityError, IssueError, Signer};
use crate::keys::{ISSUING, bundle_of, life, make_issuing, read_own_pem};
use crate::rotation::Rotation;
use crate::state::StateDir;

/// Settings of an authority.
#[derive(Debug, Clone)]
pub struct AuthoritySettings {
    /// Whose identities it issues.
    pub trust_domain: TrustDomain,
    /// Where the own root and issuing key are, and the join tokens. Made if it is not there.
    pub state_dir: PathBuf,
    /// How long a leaf lives: 10 seconds (which only tests want) to 7 days.
    pub leaf_ttl: Duration,
    /// The user's own certificates instead of made ones.
    pub own_pem: Option<OwnPem>,
    /// PEM files of roots that are in the trust bundle beside the signing one: of an authority before or after this.
    pub extra_roots: Vec<PathBuf>,
}

impl AuthoritySettings {
    /// Settings with leaves of 24 hours and made keys.
    pub fn new(trust_domain: TrustDomain, state_dir: PathBuf) -> Self {
        let leaf_ttl = Duration::from_secs(86_400);
        Self { trust_domain, state_dir, leaf_ttl, own_pem: None, extra_roots: Vec::new() }
    }
}

/// PEM files of the user's own PKI.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnPem {
    /// The root certificates. The first one is what join tokens pin.
    pub roots: PathBuf,
    /// The issuing certificate, then what leads to the root, without the root.
    pub chain: PathBuf,
    /// The issuing certificate's private key.
    pub key: PathBuf,
}

/// A leaf and what leads from it to the root.
#[derive(Debug, Clone)]
pub struct Issued {
    /// Leaf first, without the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's end.
    pub not_after: SystemTime,
}

/// The authority of a trust domain.
#[derive(Debug)]
pub struct Authority {
    trust_domain: TrustDomain,
    leaf_ttl: Duration,
    state_dir: PathBuf,
    extra_roots: Vec<PathBuf>,
    /// All that belongs together at one moment: one value, one swap.
    keys: ArcSwap<Keys>,
    /// Held while keys are replaced: one change at a time.
    steps: Mutex<()>,
    _lock: File,
}

#[derive(Debug)]
struct Keys {
    issuing: Arc<Signer>,
    /// Of the pair that signs.
    roots: Vec<CertificateDer<'static>>,
    bundle: TrustBundle,
    /// `None` with the user's own PEM: renewing that is the user's part.
    own: Option<OwnRoot>,
    /// The replacement of the own root that is under way.
    rotation: Option<Rotation>,
}

#[derive(Debug, Clone)]
struct OwnRoot {
    state: StateDir,
    signer: Arc<Signer>,
}

impl Authority {
    /// Opens the authority; on first start makes its root and issuing key.
    ///
    /// # Errors
    /// Which file or setting is wrong and what was expected. Nothing that is there is ever overwritten by that.
    pub fn open(settings: &AuthoritySettings, now: SystemTime) -> Result<Self, AuthorityError> {
        if !LEAF_TTL.contains(&settings.leaf_ttl) {
            let value = humantime::format_duration(settings.leaf_ttl).to_string();
            return Err(AuthorityError::Setting { setting: "leaf_ttl", value, expected: "10s to 7days" });
        }
        let state = StateDir::open(&settings.state_dir)?;
        let lock = state.lock()?;
        let domain = &settings.trust_domain;
        let (keys, file) = match &settings.own_pem {
            Some(pem) => {
                let (issuing, roots) = read_own_pem(domain, pem)?;
                let bundle = bundle_of(domain, &roots, &settings.extra_roots)?;
                let issuing = Arc::new(issuing);
                (Keys { issuing, roots, bundle, own: None, rotation: None }, pem.chain.clone())
            }
            None => {
                let file = state.path(ISSUING);
                let pairs = rotate::open_pairs(domain, state, now)?;
                (Keys::of_pairs(domain, pairs, &settings.extra_roots)?, file)
            }
        };
        let authority = Self {
            trust_domain: domain.clone(),
            leaf_ttl: settings.leaf_ttl,
            state_dir: settings.state_dir.clone(),
            extra_roots: settings.extra_roots.clone(),
            keys: ArcSwap::from_pointee(keys),
            steps: Mutex::default(),
            _lock: lock,
        };
        authority.renew_issuing(now)?;
        authority.try_out(&file, now)?;
        Ok(authority)
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The roots that leaves of this trust domain may have.
    pub fn bundle(&self) -> TrustBundle {
        self.keys.load().bundle.clone()
    }

    /// How long a leaf lives at most.
    pub fn leaf_ttl(&self) -> Duration {
        self.leaf_ttl
    }

    /// The pin of the root that the control plane presents: what join tokens carry.
    pub fn root_pin(&self) -> Option<RootPin> {
        self.keys.load().roots.first().map(RootPin::of)
    }

    /// The end of the issuing certificate.
    pub fn issuing_not_after(&self) -> SystemTime {
        self.keys.load().issuing.not_after
    }

    /// The ends of the roots of the bundle, for the gauge that says when they are over.
    pub fn roots_not_after(&self) -> Vec<SystemTime> {
        self.keys.load().bundle.roots.iter().filter_map(|root| Some(life(root).ok()?.1)).collect()
    }

    /// Who signs now.
    pub(crate) fn issuer(&self) -> Arc<Signer> {
        self.keys.load().issuing.clone()
    }

    /// Issues a leaf for an attested identity.
    ///
    /// # Errors
    /// When the request names another id, the id is foreign or reserved, or the issuing certificate is ending.
    pub fn issue(&self, csr: &Csr, id: &SpiffeId, now: SystemTime) -> Result<Issued, IssueError> {
        if id.path() == CONTROL_PLANE_PATH || id.path().is_empty() {
            return Err(IssueError::Reserved(id.clone()));
        }
        self.sign(csr, id, now)
    }

    /// Issues an SVID for this process itself. Its chain ends with the root, so that pins of it can be checked.
    ///
    /// # Errors
    /// As [`Authority::issue`].
    pub fn issue_own(&self, path: &str, now: SystemTime) -> Result<Svid, IssueError> {
        let text = format!("spiffe://{}{path}", self.trust_domain);
        let id: SpiffeId = text.parse().map_err(weft_identity::InvalidSvid::Id)?;
        let (key, csr) = new_key_and_csr(Some(&id))?;
        let keys = self.keys.load_full();
        let issued = self.sign_with(&keys, &Csr::from_der(&csr)?, &id, now)?;
        let chain = issued.chain.into_iter().chain(keys.roots.first().cloned()).collect();
        Ok(Svid::from_der(chain, PrivateKeyDer::Pkcs8(key))?)
    }

    /// Makes a new issuing certificate if the own one is nearing its end; says whether it did. The root stays, so
    /// proxies need nothing new to trust it.
    ///
    /// # Errors
    /// When the new one can't be made or written. The old one then stays in use.
    pub fn renew_issuing(&self, now: SystemTime) -> Result<bool, AuthorityError> {
        let _one = self.steps.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let keys = self.keys.load_full();
        let Some(own) = &keys.own else { return Ok(false) };
        if !keys.issuing.is_ending(now) {
            return Ok(false);
        }
        // Near the root's end a new issuing certificate would not live longer than the old one.
        if own.signer.not_after <= keys.issuing.not_after {
            tracing::error!(
                "the root of the CA is ending: no new issuing certificate can be made; rotate the root"
            );
            return Ok(false);
        }
        let issuing = make_issuing(&self.trust_domain, &own.state, &own.signer, now)?;
        let (roots, bundle) = (keys.roots.clone(), keys.bundle.clone());
        let (own, rotation) = (keys.own.clone(), keys.rotation.clone());
        self.keys.store(Arc::new(Keys { issuing: Arc::new(issuing), roots, bundle, own, rotation }));
        Ok(true)
    }

    fn sign(&self, csr: &Csr, id: &SpiffeId, now: SystemTime) -> Result<Issued, IssueError> {
        self.sign_with(&self.keys.load(), csr, id, now)
    }

    fn sign_with(
        &self,
        keys: &Keys,
        csr: &Csr,
        id: &SpiffeId,
        now: SystemTime,
    ) -> Result<Issued, IssueError> {
        if id.trust_domain() != self.trust_domain {
            return Err(IssueError::ForeignTrustDomain(id.clone()));
        }
        csr.check_id(id)?;
        let issuing = &keys.issuing;
        let (leaf, not_after) = issuing.leaf(csr, id, self.leaf_ttl, now)?;
        let chain = std::iter::once(leaf).chain(issuing.chain.iter().cloned()).collect();
        Ok(Issued { chain, not_after })
    }

    /// Issues a leaf and verifies it as a peer would.
    fn try_out(&self, file: &Path, now: SystemTime) -> Result<(), AuthorityError> {
        let file = file.display().to_string();
        let svid = self
            .issue_own(CONTROL_PLANE_PATH, now)
            .map_err(|error| AuthorityError::Unusable { file: file.clone(), problem: describe(&error) })?;
        let bundles = weft_identity::TrustBundles::from_iter([self.bundle()]);
        let time = UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
        let verified = weft_identity::verify(svid.chain(), &bundles, time);
        verified.map(|_| ()).map_err(|cause| AuthorityError::Unverifiable { file, cause })
    }
}

/// An error with its causes in one line.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Below 10 s nothing renews in time; above 7 days a stolen key is of use for too long.
const LEAF_TTL: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(10)..=Duration::from_secs(7 * 86_400);

#[cfg(test)]
mod tests;
