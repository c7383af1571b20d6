//! Where signers come from: the state directory, in which missing ones are made, or the user's PEM files.
//!
//! What is there is never overwritten: a damaged or lost file is an error that names it, since a new root in its place
//! would orphan every leaf that the old one signed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{Issuer, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use weft_identity::{RootPin, TrustBundle, certificates_from_pem, certificates_to_pem, key_from_pem};
use weft_model::TrustDomain;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::authority::OwnPem;
use crate::issuing::{AuthorityError, Signer, new_issuing, new_root};
use crate::state::{StateDir, StateError, io_error};

/// The own root and issuing certificate, made where they are missing.
pub(crate) fn open_own(
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
        .map_err(|cause| AuthorityError::Bundle { file, cause })?;
    let issuing = match issuing {
        Some(text) => read_pair(state, ISSUING, &text)?,
        None => make_issuing(domain, state, &root, now)?,
    };
    Ok((root, issuing))
}

pub(crate) fn make_issuing(
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

pub(crate) fn read_own_pem(
    domain: &TrustDomain,
    pem: &OwnPem,
) -> Result<(Signer, Vec<CertificateDer<'static>>), AuthorityError> {
    let roots = read_roots(domain, &pem.roots)?;
    let pem_error = |path: &Path| {
        let file = path.display().to_string();
        move |cause| AuthorityError::Pem { file, cause }
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

pub(crate) fn read_roots(
    domain: &TrustDomain,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    let file = || path.display().to_string();
    let bundle = TrustBundle::from_pem(domain.clone(), &read(path)?);
    Ok(bundle.map_err(|cause| AuthorityError::Bundle { file: file(), cause })?.roots)
}

fn read(path: &Path) -> Result<String, StateError> {
    fs::read_to_string(path).map_err(io_error("reading", path))
}

pub(crate) fn bundle_of(
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

pub(crate) fn life(certificate: &CertificateDer<'_>) -> Result<(SystemTime, SystemTime), String> {
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

pub(crate) const ROOT: &str = "root.pem";
pub(crate) const ISSUING: &str = "issuing.pem";
