//! Certificate, key and bundles on disk. A saved certificate that has expired is restored too: its roots are still
//! good for meeting the control plane, and the status can say since when.

use std::collections::BTreeMap;
use std::time::SystemTime;

use anyhow::{Context, Result};
use weft_identity::{Svid, SvidSource, TrustBundle, TrustBundles};
use weft_model::TrustDomain;

use crate::state::{BUNDLES, SVID, StateDir, StateError};

/// Saves a certificate with its key, and the bundles.
pub(super) fn save(state: &StateDir, svid: &Svid, bundles: &TrustBundles) -> Result<(), StateError> {
    save_bundles(state, bundles)?;
    state.write(SVID, svid.to_pem().as_bytes())
}

/// Saves the bundles.
pub(crate) fn save_bundles(state: &StateDir, bundles: &TrustBundles) -> Result<(), StateError> {
    let by_domain: BTreeMap<&TrustDomain, String> =
        bundles.iter().map(|bundle| (&bundle.trust_domain, bundle.to_pem())).collect();
    // A map of strings always has a JSON form.
    let json = serde_json::to_vec_pretty(&by_domain).unwrap_or_default();
    state.write(BUNDLES, &json)
}

/// Puts what was saved into `svids`. What is damaged is set aside and the proxy starts as without it.
pub(crate) fn restore(state: &StateDir, svids: &SvidSource) {
    let bundles = state.restore(BUNDLES, |text| read_bundles(text).map_err(|error| format!("{error:#}")));
    let svid = state.restore(SVID, Svid::from_pem);
    if let Some(bundles) = bundles {
        svids.set_bundles(bundles);
    }
    if let Some(svid) = svid {
        match super::validity(&svid, SystemTime::now()) {
            Ok(()) => tracing::info!(id = %svid.id(), "saved certificate in use"),
            Err(why) => tracing::warn!(id = %svid.id(), "the saved certificate is {why}"),
        }
        svids.set_svid(svid);
    }
}

fn read_bundles(text: &str) -> Result<TrustBundles> {
    let by_domain: BTreeMap<TrustDomain, String> = serde_json::from_str(text)?;
    let mut bundles = TrustBundles::default();
    for (trust_domain, pem) in by_domain {
        let context = format!("bundle of {trust_domain}");
        bundles.insert(TrustBundle::from_pem(trust_domain, &pem).context(context)?);
    }
    Ok(bundles)
}

#[cfg(test)]
mod tests {
    use weft_identity::testkit::TestAuthority;

    use super::*;

    #[test]
    fn what_was_saved_is_restored() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(directory.path()).unwrap();
        let authority = TestAuthority::new("weft.test");
        save(&state, &authority.svid("/ns/default/sa/web"), &authority.bundles()).unwrap();
        let svids = SvidSource::new();
        restore(&state, &svids);
        let credentials = svids.current().unwrap();
        assert_eq!(credentials.svid.id().as_str(), "spiffe://weft.test/ns/default/sa/web");
        assert_eq!(*credentials.bundles, authority.bundles());
    }

    #[test]
    fn a_damaged_key_costs_the_certificate_and_not_the_bundles() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(directory.path()).unwrap();
        let authority = TestAuthority::new("weft.test");
        save(&state, &authority.svid("/ns/default/sa/web"), &authority.bundles()).unwrap();
        let pem = state.read(SVID).unwrap().unwrap();
        state.write(SVID, &pem.as_bytes()[..pem.len() / 2]).unwrap();
        let svids = SvidSource::new();
        restore(&state, &svids);
        assert!(svids.current().is_none());
        assert!(directory.path().join("svid.pem.bad").exists());
        assert!(directory.path().join("bundles.json").exists());
    }
}
