//! Roots that come and go.

use super::*;
use crate::rotation::RotationPhase;

fn verifies(svid: &Svid, bundle: &TrustBundle) -> bool {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let bundles = weft_identity::TrustBundles::from_iter([bundle.clone()]);
    weft_identity::verify(svid.chain(), &bundles, UnixTime::since_unix_epoch(now)).is_ok()
}

fn own(authority: &Authority) -> Svid {
    authority.issue_own(CONTROL_PLANE_PATH, SystemTime::now()).unwrap()
}

#[test]
fn each_phase_trusts_and_signs_as_it_says_and_survives_a_restart() {
    let place = Place::new();
    let now = SystemTime::now();
    let first = place.open().unwrap();
    let (old_pin, old_leaf, old_bundle) = (first.root_pin(), own(&first), first.bundle());

    first.announce_root(now).unwrap().unwrap();
    assert!(first.announce_root(now).unwrap().is_none(), "a second one was begun");
    let both = first.bundle();
    assert_eq!((both.roots.len(), first.root_pin()), (2, old_pin));
    drop(first);
    let again = place.open().unwrap();
    assert_eq!(again.rotation().unwrap().phase, RotationPhase::Announced);
    assert_eq!((again.bundle(), again.root_pin()), (both.clone(), old_pin));
    assert!(verifies(&own(&again), &old_bundle), "a leaf that not all can verify");

    again.switch_root(now).unwrap();
    let new_pin = again.root_pin();
    assert!(new_pin != old_pin && again.bundle() == both);
    drop(again);
    let again = place.open().unwrap();
    assert_eq!((again.rotation().unwrap().phase, again.root_pin()), (RotationPhase::Switched, new_pin));
    let new_leaf = own(&again);
    assert!(verifies(&new_leaf, &both) && verifies(&old_leaf, &both) && !verifies(&new_leaf, &old_bundle));

    again.retire_root(now).unwrap();
    assert_eq!((again.rotation(), again.bundle().roots.len(), again.root_pin()), (None, 1, new_pin));
    assert!(verifies(&new_leaf, &again.bundle()) && !verifies(&old_leaf, &again.bundle()));
    drop(again);
    let again = place.open().unwrap();
    assert_eq!((again.rotation(), again.root_pin()), (None, new_pin));
    again.announce_root(now).unwrap().expect("the next one can begin");
}

#[test]
fn a_crash_while_the_old_pair_is_replaced_is_finished_at_the_next_start() {
    let place = Place::new();
    let authority = place.open().unwrap();
    authority.announce_root(SystemTime::now()).unwrap();
    authority.switch_root(SystemTime::now()).unwrap();
    let pin = authority.root_pin();
    drop(authority);
    // As if it had ended after the first of two renames.
    let said = std::fs::read_to_string(place.file("rotation.json")).unwrap();
    std::fs::write(place.file("rotation.json"), said.replace("switched", "retired")).unwrap();
    std::fs::rename(place.file("next/root.pem"), place.file("root.pem")).unwrap();
    let again = place.open().unwrap();
    assert_eq!((again.root_pin(), again.rotation(), again.bundle().roots.len()), (pin, None, 1));
}

#[test]
fn a_lost_new_root_is_not_made_anew() {
    let place = Place::new();
    let authority = place.open().unwrap();
    authority.announce_root(SystemTime::now()).unwrap();
    drop(authority);
    std::fs::remove_file(place.file("next/root.pem")).unwrap();
    std::fs::remove_file(place.file("next/issuing.pem")).unwrap();
    let error = place.open().unwrap_err().to_string();
    assert!(error.contains("next/root.pem"), "{error}");
}
