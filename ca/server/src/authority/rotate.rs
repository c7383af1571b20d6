//! The files of a root's replacement, and the steps on them.
//!
//! The new pair is in `next/` until the old one is gone; `rotation.json` says which of the two signs. So each step is one
//! file that is replaced as a whole, and the renames at the end are done again after a crash.

use std::sync::Arc;
use std::time::SystemTime;

use weft_identity::TrustBundle;

use super::{Authority, Keys, OwnRoot};
use crate::issuing::AuthorityError;
use crate::keys::{ISSUING, ROOT, open_own};
use crate::rotation::{Rotation, RotationPhase};
use crate::state::{StateDir, StateError};

/// What an own CA has on its disk.
#[derive(Debug)]
pub(super) struct Pairs {
    pub(super) signing: OwnRoot,
    pub(super) issuing: crate::issuing::Signer,
    /// The root of the other pair.
    pub(super) other: Option<rustls_pki_types::CertificateDer<'static>>,
    pub(super) rotation: Option<Rotation>,
}

/// Reads the pairs; finishes what a crash left half done.
pub(super) fn open_pairs(
    domain: &weft_model::TrustDomain,
    state: StateDir,
    now: SystemTime,
) -> Result<Pairs, AuthorityError> {
    let rotation = read(&state)?;
    if rotation.as_ref().is_some_and(|rotation| rotation.phase == RotationPhase::Retired) {
        finish(&state)?;
        return open_pairs(domain, state, now);
    }
    let (root, issuing) = open_own(domain, &state, now)?;
    let Some(rotation) = rotation else {
        let signing = OwnRoot { state, signer: Arc::new(root) };
        return Ok(Pairs { signing, issuing, other: None, rotation: None });
    };
    let next = state.directory(NEXT)?;
    // A lost pair must not be made anew: leaves of it may be alive.
    if next.read(ROOT)?.is_none() {
        return Err(StateError::Damaged {
            path: next.path(ROOT),
            problem: "it is missing, but rotation.json is there".to_owned(),
            expected: "the new root of the replacement under way",
        }
        .into());
    }
    let (next_root, next_issuing) = open_own(domain, &next, now)?;
    let (signing, issuing, other) = match rotation.phase {
        RotationPhase::Switched => (OwnRoot { state: next, signer: Arc::new(next_root) }, next_issuing, root),
        _ => (OwnRoot { state, signer: Arc::new(root) }, issuing, next_root),
    };
    Ok(Pairs { signing, issuing, other: other.chain.first().cloned(), rotation: Some(rotation) })
}

impl Authority {
    /// The replacement under way.
    pub fn rotation(&self) -> Option<Rotation> {
        self.keys.load().rotation.clone()
    }

    /// Makes a new root and puts it into the bundle. `None`: a replacement is under way already.
    ///
    /// # Errors
    /// When the keys are the user's PEM, whose replacement is the user's part; or the disk fails: nothing has begun then.
    pub fn announce_root(&self, now: SystemTime) -> Result<Option<Rotation>, AuthorityError> {
        let _one = self.steps.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if self.keys.load().own.is_none() {
            return Err(AuthorityError::Setting {
                setting: "own_pem",
                value: "set".to_owned(),
                expected: "the CA's own keys: replacing yours is described in docs/identity.md",
            });
        }
        if self.rotation().is_some() {
            return Ok(None);
        }
        let top = StateDir::open(&self.state_dir)?;
        // What an earlier attempt left was never in use: there is no rotation.json beside it.
        let next = top.directory(NEXT)?;
        next.remove(ISSUING)?;
        next.remove(ROOT)?;
        open_own(&self.trust_domain, &next, now)?;
        self.enter(&top, &Rotation::begin(now), now).map(Some)
    }

    /// Does not wait for the next step.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn force_rotation(&self, now: SystemTime) -> Result<Option<Rotation>, AuthorityError> {
        let _one = self.steps.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(rotation) = self.rotation() else { return Ok(None) };
        let top = StateDir::open(&self.state_dir)?;
        self.enter(&top, &Rotation { forced: true, ..rotation }, now).map(Some)
    }

    /// Lets the new root sign.
    ///
    /// # Errors
    /// When it can't be written: the old one signs on.
    pub fn switch_root(&self, now: SystemTime) -> Result<(), AuthorityError> {
        let _one = self.steps.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(rotation) = self.rotation() else { return Ok(()) };
        let top = StateDir::open(&self.state_dir)?;
        self.enter(&top, &rotation.entered(RotationPhase::Switched, now), now).map(drop)
    }

    /// Takes the old root out of the bundle and removes its files.
    ///
    /// # Errors
    /// When it can't be written; it is tried again, or finished at the next start.
    pub fn retire_root(&self, now: SystemTime) -> Result<(), AuthorityError> {
        let _one = self.steps.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(rotation) = self.rotation() else { return Ok(()) };
        let top = StateDir::open(&self.state_dir)?;
        write(&top, &rotation.entered(RotationPhase::Retired, now))?;
        self.reopen(top, now)
    }

    /// The new phase, first on disk and then in use.
    fn enter(
        &self,
        top: &StateDir,
        rotation: &Rotation,
        now: SystemTime,
    ) -> Result<Rotation, AuthorityError> {
        write(top, rotation)?;
        self.reopen(top.clone(), now)?;
        Ok(rotation.clone())
    }

    fn reopen(&self, top: StateDir, now: SystemTime) -> Result<(), AuthorityError> {
        let pairs = open_pairs(&self.trust_domain, top, now)?;
        self.keys.store(Arc::new(Keys::of_pairs(&self.trust_domain, pairs, &self.extra_roots)?));
        Ok(())
    }
}

impl Keys {
    /// The keys of a CA that has its own.
    pub(super) fn of_pairs(
        domain: &weft_model::TrustDomain,
        pairs: Pairs,
        extra: &[std::path::PathBuf],
    ) -> Result<Self, AuthorityError> {
        let Pairs { signing, issuing, other, rotation } = pairs;
        let roots = signing.signer.chain.clone();
        let mut trusted: Vec<_> = roots.iter().cloned().chain(other).collect();
        // The same order whoever signs: the bundle does not change with the switch.
        trusted.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
        let bundle: TrustBundle = crate::keys::bundle_of(domain, &trusted, extra)?;
        Ok(Self { issuing: Arc::new(issuing), roots, bundle, own: Some(signing), rotation })
    }
}

/// Puts the new pair in the old one's place. Each step may have been done before a crash.
fn finish(state: &StateDir) -> Result<(), StateError> {
    state.directory(NEXT)?;
    for name in [ROOT, ISSUING] {
        state.take(&format!("{NEXT}/{name}"), name)?;
    }
    state.remove(ROTATION).map(drop)
}

fn read(state: &StateDir) -> Result<Option<Rotation>, StateError> {
    let Some(text) = state.read(ROTATION)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|error| StateError::Damaged {
        path: state.path(ROTATION),
        problem: error.to_string(),
        expected: "the phase of a root's replacement as JSON",
    })
}

fn write(state: &StateDir, rotation: &Rotation) -> Result<(), StateError> {
    let text = serde_json::to_string(rotation).unwrap_or_default();
    state.write(ROTATION, &text)
}

const NEXT: &str = "next";
const ROTATION: &str = "rotation.json";
