//! The authority of one trust domain: it signs leaves and knows the trust bundle.
//!
//! Its keys are its own, made on first start in a state directory, or the user's PEM. Either way a leaf is issued
//! and verified before the authority exists: what does not fit together is found at start, by file, and not by peers.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rcgen::{Issuer, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use serde::Deserialize;
use weft_identity::{
    CONTROL_PLANE_PATH, RootPin, Svid, TrustBundle, certificates_from_pem, certificates_to_pem, key_from_pem,
    new_key_and_csr,
};
use weft_model::{SpiffeId, TrustDomain};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::csr::Csr;
use crate::issuing::{AuthorityError, IssueError, Signer, new_issuing, new_root};
use crate::state::{StateDir, StateError, io_error};

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
    issuing: ArcSwap<Signer>,
    roots: Vec<CertificateDer<'static>>,
    bundle: TrustBundle,
    /// `None` with the user's own PEM: renewing that is the user's part.
    own: Option<OwnRoot>,
    _lock: File,
}

#[derive(Debug)]
struct OwnRoot {
    state: StateDir,
    signer: Signer,
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
        let (own, issuing, roots, file) = match &settings.own_pem {
            Some(pem) => {
                let (issuing, roots) = read_own_pem(domain, pem)?;
                (None, issuing, roots, pem.chain.clone())
            }
            None => {
                let (root, issuing) = open_own(domain, &state, now)?;
                let roots = root.chain.clone();
                let file = state.path(ISSUING);
                (Some(OwnRoot { state, signer: root }), issuing, roots, file)
            }
        };
        let bundle = bundle_of(domain, &roots, &settings.extra_roots)?;
        let authority = Self {
            trust_domain: domain.clone(),
            leaf_ttl: settings.leaf_ttl,
            issuing: ArcSwap::from_pointee(issuing),
            roots,
            bundle,
            own,
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
    pub fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// The pin of the root that the control plane presents: what join tokens carry.
    pub fn root_pin(&self) -> Option<RootPin> {
        self.roots.first().map(RootPin::of)
    }

    /// The end of the issuing certificate.
    pub fn issuing_not_after(&self) -> SystemTime {
        self.issuing.load().not_after
    }

    /// The ends of the roots of the bundle, for the gauge that says when they are over.
    pub fn roots_not_after(&self) -> Vec<SystemTime> {
        self.bundle.roots.iter().filter_map(|root| Some(life(root).ok()?.1)).collect()
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
        let issued = self.sign(&Csr::from_der(&csr)?, &id, now)?;
        let chain = issued.chain.into_iter().chain(self.roots.first().cloned()).collect();
        Ok(Svid::from_der(chain, PrivateKeyDer::Pkcs8(key))?)
    }

    /// Makes a new issuing certificate if the own one is nearing its end; says whether it did. The root stays, so
    /// proxies need nothing new to trust it.
    ///
    /// # Errors
    /// When the new one can't be made or written. The old one then stays in use.
    pub fn renew_issuing(&self, now: SystemTime) -> Result<bool, AuthorityError> {
        let Some(own) = &self.own else { return Ok(false) };
        if !self.issuing.load().is_ending(now) {
            return Ok(false);
        }
        // Near the root's end a new issuing certificate would not live longer than the old one.
        if own.signer.not_after <= self.issuing_not_after() {
            tracing::error!(
                "the root of the CA is ending: no new issuing certificate can be made; rotate the root"
            );
            return Ok(false);
        }
        let issuing = make_issuing(&self.trust_domain, &own.state, &own.signer, now)?;
        self.issuing.store(Arc::new(issuing));
        Ok(true)
    }

    fn sign(&self, csr: &Csr, id: &SpiffeId, now: SystemTime) -> Result<Issued, IssueError> {
        if id.trust_domain() != self.trust_domain {
            return Err(IssueError::ForeignTrustDomain(id.clone()));
        }
        csr.check_id(id)?;
        let issuing = self.issuing.load_full();
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
        let bundles = weft_identity::TrustBundles::from_iter([self.bundle.clone()]);
        let time = UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
        let verified = weft_identity::verify(svid.chain(), &bundles, time);
        verified.map(|_| ()).map_err(|source| AuthorityError::Unverifiable { file, source })
    }
}

/// The own root and issuing certificate, made where they are missing.
fn open_own(
    domain: &TrustDomain,
    state: &StateDir,
    now: SystemTime,
) -> Result<(Signer, Signer), AuthorityError> {
    let (root, issuing) = (state.read(ROOT)?, state.read(ISSUING)?);
    let root = match (root, &issuing) {
        (Some(text), _) => read_pair(state, ROOT, &text)?,
        (None, None) => {
            let sign = |source| AuthorityError::Sign { what: "the root", source };
            let (certificate, key) = new_root(domain, now).map_err(sign)?;
            write_pair(state, ROOT, &certificate, &key)?;
            tracing::info!(file = %state.path(ROOT).display(), pin = %RootPin::of(&certificate), "made a new root");
            signer(vec![certificate], key).map_err(damaged(state, ROOT))?
        }
        // A new root here would orphan every leaf that the old one signed.
        (None, Some(_)) => {
            return Err(damaged(state, ROOT)("it is missing, but issuing.pem is there".to_owned()).into());
        }
    };
    // Whose root it is, before anything is signed by it.
    let file = state.path(ROOT).display().to_string();
    TrustBundle::new(domain.clone(), root.chain.clone())
        .map_err(|source| AuthorityError::Bundle { file, source })?;
    let issuing = match issuing {
        Some(text) => read_pair(state, ISSUING, &text)?,
        None => make_issuing(domain, state, &root, now)?,
    };
    Ok((root, issuing))
}

fn make_issuing(
    domain: &TrustDomain,
    state: &StateDir,
    root: &Signer,
    now: SystemTime,
) -> Result<Signer, AuthorityError> {
    let sign = |source| AuthorityError::Sign { what: "the issuing key", source };
    let (certificate, key) = new_issuing(domain, root, now).map_err(sign)?;
    write_pair(state, ISSUING, &certificate, &key)?;
    tracing::info!(file = %state.path(ISSUING).display(), "made a new issuing certificate");
    Ok(signer(vec![certificate], key).map_err(damaged(state, ISSUING))?)
}

fn write_pair(
    state: &StateDir,
    name: &str,
    certificate: &CertificateDer<'_>,
    key: &KeyPair,
) -> Result<(), StateError> {
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    state.write(name, &format!("{}{}", certificates_to_pem([certificate]), weft_identity::key_to_pem(&key)))
}

fn read_pair(state: &StateDir, name: &'static str, text: &str) -> Result<Signer, StateError> {
    let fail = damaged(state, name);
    let parts = || -> Result<Signer, String> {
        let chain = certificates_from_pem(text).map_err(|error| error.to_string())?;
        let key = key_from_pem(text).map_err(|error| error.to_string())?;
        signer(chain, KeyPair::try_from(&key).map_err(|error| format!("the private key: {error}"))?)
    };
    parts().map_err(fail)
}

fn read_own_pem(
    domain: &TrustDomain,
    pem: &OwnPem,
) -> Result<(Signer, Vec<CertificateDer<'static>>), AuthorityError> {
    let roots = read_roots(domain, &pem.roots)?;
    let pem_error = |path: &Path| {
        let file = path.display().to_string();
        move |source| AuthorityError::Pem { file, source }
    };
    let chain = certificates_from_pem(&read(&pem.chain)?).map_err(pem_error(&pem.chain))?;
    // A chain file often holds the root too; peers have it already.
    let chain: Vec<_> = chain.into_iter().filter(|certificate| !roots.contains(certificate)).collect();
    let key = key_from_pem(&read(&pem.key)?).map_err(pem_error(&pem.key))?;
    let unusable =
        |path: &Path, problem| AuthorityError::Unusable { file: path.display().to_string(), problem };
    let key =
        KeyPair::try_from(&key).map_err(|error| unusable(&pem.key, format!("the private key: {error}")))?;
    let signer = signer(chain, key).map_err(|problem| unusable(&pem.chain, problem))?;
    Ok((signer, roots))
}

fn read_roots(domain: &TrustDomain, path: &Path) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    let file = || path.display().to_string();
    let bundle = TrustBundle::from_pem(domain.clone(), &read(path)?);
    Ok(bundle.map_err(|source| AuthorityError::Bundle { file: file(), source })?.roots)
}

fn read(path: &Path) -> Result<String, StateError> {
    fs::read_to_string(path).map_err(io_error("reading", path))
}

fn bundle_of(
    domain: &TrustDomain,
    roots: &[CertificateDer<'static>],
    extra: &[PathBuf],
) -> Result<TrustBundle, AuthorityError> {
    let mut roots = roots.to_vec();
    for path in extra {
        let more = read_roots(domain, path)?;
        roots.extend(more.into_iter().filter(|root| !roots.contains(root)).collect::<Vec<_>>());
    }
    Ok(TrustBundle { trust_domain: domain.clone(), roots })
}

/// A signer of its certificate chain and key; the problem in words if they don't fit.
fn signer(chain: Vec<CertificateDer<'static>>, key: KeyPair) -> Result<Signer, String> {
    let first = chain.first().ok_or("there is no certificate but the root's")?;
    let (_, certificate) = X509Certificate::from_der(first).map_err(|error| error.to_string())?;
    if !certificate.is_ca() {
        return Err("the first certificate is not a CA certificate".to_owned());
    }
    if certificate.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
        return Err("the private key is not the certificate's".to_owned());
    }
    let (not_before, not_after) = life(first)?;
    let issuer = Issuer::from_ca_cert_der(first, key).map_err(|error| error.to_string())?;
    Ok(Signer { issuer, chain, not_before, not_after })
}

fn life(certificate: &CertificateDer<'_>) -> Result<(SystemTime, SystemTime), String> {
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    let time =
        |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let validity = certificate.validity();
    Ok((time(validity.not_before.timestamp()), time(validity.not_after.timestamp())))
}

fn damaged(state: &StateDir, name: &str) -> impl FnOnce(String) -> StateError {
    let path = state.path(name);
    move |problem| StateError::Damaged {
        path,
        problem,
        expected: "one CA certificate and its private key in PEM",
    }
}

/// An error with its causes in one line.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

const ROOT: &str = "root.pem";
const ISSUING: &str = "issuing.pem";
/// Below 10 s nothing renews in time; above 7 days a stolen key is of use for too long.
const LEAF_TTL: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(10)..=Duration::from_secs(7 * 86_400);

#[cfg(test)]
mod tests;
