//! The authority over its state directory: first start, restart, damage, the user's own PEM, and clocks that jump.

mod own_pem;
mod rotation;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rcgen::{CertificateParams, Issuer, KeyPair};
use weft_identity::{TrustBundles, VerifyError, peer_id, verify};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::*;
use crate::StateError;
use crate::keys::ROOT;

const DAY: Duration = Duration::from_secs(86_400);

struct Place {
    temporary: tempfile::TempDir,
    settings: AuthoritySettings,
}

impl Place {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let settings = AuthoritySettings::new("weft.test".parse().unwrap(), temporary.path().join("ca"));
        Self { temporary, settings }
    }
    fn open(&self) -> Result<Authority, AuthorityError> {
        self.open_at(SystemTime::now())
    }
    fn open_at(&self, now: SystemTime) -> Result<Authority, AuthorityError> {
        Authority::open(&self.settings, now)
    }
    fn file(&self, name: &str) -> PathBuf {
        self.settings.state_dir.join(name)
    }
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.temporary.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }
    /// The error of opening, which must name the file.
    fn refused(&self, name: &str) -> String {
        let error = describe(&self.open().expect_err("accepted"));
        assert!(error.contains(name), "{error}");
        error
    }
}

fn csr() -> Csr {
    Csr::from_der(&new_key_and_csr(None).unwrap().1).unwrap()
}

fn id(text: &str) -> SpiffeId {
    format!("spiffe://weft.test{text}").parse().unwrap()
}

fn accepted(
    authority: &Authority,
    chain: &[CertificateDer<'_>],
    now: SystemTime,
) -> Result<SpiffeId, VerifyError> {
    let bundles = TrustBundles::from_iter([authority.bundle().clone()]);
    verify(chain, &bundles, UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap()))
}

#[test]
fn a_first_start_makes_private_keys_that_issue_valid_leaves() {
    let (place, now) = (Place::new(), SystemTime::now());
    let authority = place.open().unwrap();
    for name in [ROOT, ISSUING] {
        assert_eq!(fs::metadata(place.file(name)).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let issued = authority.issue(&csr(), &id("/ns/shop/sa/web"), now).unwrap();
    assert_eq!(issued.chain.len(), 2, "leaf and issuing certificate");
    assert_eq!(accepted(&authority, &issued.chain, now), Ok(id("/ns/shop/sa/web")));
}

#[test]
fn a_leaf_keeps_the_profile_and_a_day_with_a_back_dated_start() {
    let (place, now) = (Place::new(), SystemTime::now());
    let authority = place.open().unwrap();
    let issued = authority.issue(&csr(), &id("/ns/shop/sa/web"), now).unwrap();
    let (_, leaf) = X509Certificate::from_der(&issued.chain[0]).unwrap();
    let (not_before, not_after) = life(&issued.chain[0]).unwrap();
    // A day's twentieth is more than an hour and five minutes: so much at most.
    assert_eq!(now.duration_since(not_before).unwrap().as_secs(), 65 * 60);
    assert_eq!(not_after.duration_since(not_before).unwrap(), DAY + Duration::from_secs(65 * 60));
    assert!(issued.not_after >= not_after);
    // SPIFFE X509-SVID 2 to 4: an empty subject, so a critical name; constraints present, critical and no CA.
    assert_eq!(leaf.subject().iter().count(), 0);
    assert!(leaf.subject_alternative_name().unwrap().unwrap().critical);
    let constraints = leaf.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && !constraints.value.ca);
    assert!(leaf.key_usage().unwrap().unwrap().critical);
    assert_eq!(leaf.key_usage().unwrap().unwrap().value.flags, 1, "only digitalSignature");
    assert_eq!(leaf.raw_serial().len(), 16);
    assert!((0x40..0x80).contains(&leaf.raw_serial()[0]), "positive, of full length");
}

#[test]
fn root_and_issuing_certificate_are_limited_in_length_and_life() {
    let place = Place::new();
    let authority = place.open().unwrap();
    let keys = authority.keys.load_full();
    let issuing = &keys.issuing;
    for (certificate, path_length, days) in [(&keys.roots[0], 1, 3650), (&issuing.chain[0], 0, 365)] {
        let (not_before, not_after) = life(certificate).unwrap();
        assert_eq!(not_after.duration_since(not_before).unwrap().as_secs() / 86_400, days);
        let (_, certificate) = X509Certificate::from_der(certificate).unwrap();
        let constraints = certificate.basic_constraints().unwrap().unwrap();
        assert_eq!((constraints.critical, constraints.value.path_len_constraint), (true, Some(path_length)));
        let usage = certificate.key_usage().unwrap().unwrap();
        assert!(usage.critical && usage.value.key_cert_sign() && !usage.value.digital_signature());
    }
    assert!(
        TrustBundle::new("weft.test".parse().unwrap(), vec![issuing.chain[0].clone()]).is_ok(),
        "URI of the domain"
    );
}

#[test]
fn a_restart_keeps_the_keys() {
    let place = Place::new();
    let first = place.open().unwrap();
    let (pin, issuing) = (first.root_pin(), first.keys.load().issuing.chain.clone());
    drop(first);
    let again = place.open().unwrap();
    assert_eq!(again.root_pin(), pin);
    assert_eq!(again.keys.load().issuing.chain, issuing);
}

#[test]
fn two_processes_can_not_share_a_directory() {
    let place = Place::new();
    let _first = place.open().unwrap();
    assert!(matches!(place.open(), Err(AuthorityError::State(StateError::InUse(_)))));
}

#[test]
fn a_crash_between_root_and_issuing_key_is_finished_at_the_next_start() {
    let place = Place::new();
    let pin = place.open().unwrap().root_pin();
    fs::remove_file(place.file(ISSUING)).unwrap();
    assert_eq!(place.open().unwrap().root_pin(), pin);
}

#[test]
fn damage_is_refused_by_file_and_nothing_is_made_anew() {
    let place = Place::new();
    drop(place.open().unwrap());
    for name in [ROOT, ISSUING] {
        let good = fs::read_to_string(place.file(name)).unwrap();
        let key = good.find("-----BEGIN PRIVATE").unwrap();
        for half in [&good[..0], &good[..key / 2], &good[..key], &good[..key + 60], &good[key..]] {
            fs::write(place.file(name), half).unwrap();
            place.refused(name);
            assert_eq!(fs::read_to_string(place.file(name)).unwrap(), half);
        }
        fs::write(place.file(name), good).unwrap();
    }
    place.open().unwrap();
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let (place, other) = (Place::new(), Place::new());
    drop((place.open().unwrap(), other.open().unwrap()));
    let split = |text: String| {
        let key = text.find("-----BEGIN PRIVATE").unwrap();
        (text[..key].to_owned(), text[key..].to_owned())
    };
    let (certificate, _) = split(fs::read_to_string(place.file(ISSUING)).unwrap());
    let (_, key) = split(fs::read_to_string(other.file(ISSUING)).unwrap());
    fs::write(place.file(ISSUING), certificate + &key).unwrap();
    assert!(place.refused(ISSUING).contains("not the certificate's"));
}

#[test]
fn an_issuing_key_of_another_root_is_refused() {
    let (place, other) = (Place::new(), Place::new());
    drop((place.open().unwrap(), other.open().unwrap()));
    fs::copy(other.file(ISSUING), place.file(ISSUING)).unwrap();
    assert!(matches!(place.open(), Err(AuthorityError::Unverifiable { .. })));
    place.refused(ISSUING);
}

#[test]
fn a_lost_root_is_not_made_anew_beside_its_issuing_key() {
    let place = Place::new();
    drop(place.open().unwrap());
    fs::remove_file(place.file(ROOT)).unwrap();
    assert!(place.refused(ROOT).contains("missing"));
    assert!(!place.file(ROOT).exists());
}

#[test]
fn a_directory_of_another_trust_domain_is_refused() {
    let mut place = Place::new();
    drop(place.open().unwrap());
    place.settings.trust_domain = "other.test".parse().unwrap();
    assert!(place.refused(ROOT).contains("weft.test"));
}

#[test]
fn keys_that_others_can_read_are_refused() {
    let place = Place::new();
    drop(place.open().unwrap());
    fs::set_permissions(place.file(ISSUING), fs::Permissions::from_mode(0o640)).unwrap();
    place.refused(ISSUING);
}

#[test]
fn reserved_and_foreign_ids_are_not_issued() {
    let (place, now) = (Place::new(), SystemTime::now());
    let authority = place.open().unwrap();
    let control = authority.issue(&csr(), &id(CONTROL_PLANE_PATH), now);
    assert!(matches!(control, Err(IssueError::Reserved(_))), "{control:?}");
    assert!(matches!(authority.issue(&csr(), &id(""), now), Err(IssueError::Reserved(_))));
    let foreign = "spiffe://other.test/ns/shop/sa/web".parse().unwrap();
    assert!(matches!(authority.issue(&csr(), &foreign, now), Err(IssueError::ForeignTrustDomain(_))));
}

#[test]
fn the_own_certificate_ends_with_the_pinned_root() {
    let place = Place::new();
    let authority = place.open().unwrap();
    let svid = authority.issue_own(CONTROL_PLANE_PATH, SystemTime::now()).unwrap();
    assert_eq!(peer_id(svid.chain()), Ok(id(CONTROL_PLANE_PATH)));
    assert_eq!(svid.chain().last().map(|root| RootPin::of(root)), authority.root_pin());
}

#[test]
fn the_issuing_certificate_is_renewed_when_a_third_is_left_under_the_same_root() {
    let (place, start) = (Place::new(), SystemTime::now());
    let authority = place.open_at(start).unwrap();
    let old = authority.issue(&csr(), &id("/a"), start).unwrap();
    assert!(!authority.renew_issuing(start + 240 * DAY).unwrap());
    let later = start + 250 * DAY;
    assert!(authority.renew_issuing(later).unwrap());
    let new = authority.issue(&csr(), &id("/a"), later).unwrap();
    assert_ne!(old.chain[1], new.chain[1]);
    assert_eq!(accepted(&authority, &new.chain, later), Ok(id("/a")));
    assert_eq!(accepted(&authority, &old.chain, start), Ok(id("/a")), "the old one is still trusted");
    drop(authority);
    assert_eq!(
        place.open_at(later).unwrap().keys.load().issuing.chain[0],
        new.chain[1],
        "it was not written"
    );
}

#[test]
fn a_clock_that_jumped_two_years_is_repaired_at_start() {
    let (place, start) = (Place::new(), SystemTime::now());
    drop(place.open_at(start).unwrap());
    let later = start + 730 * DAY;
    let authority = place.open_at(later).unwrap();
    let issued = authority.issue(&csr(), &id("/a"), later).unwrap();
    assert_eq!(accepted(&authority, &issued.chain, later), Ok(id("/a")));
}

#[test]
fn a_leaf_never_outlives_its_issuer_and_a_useless_one_is_not_issued() {
    let (place, start) = (Place::new(), SystemTime::now());
    let authority = place.open_at(start).unwrap();
    let end = authority.issuing_not_after();
    let issued = authority.issue(&csr(), &id("/a"), end - DAY / 2).unwrap();
    assert_eq!(issued.not_after, end);
    let refused = authority.issue(&csr(), &id("/a"), end - Duration::from_secs(60));
    assert!(matches!(refused, Err(IssueError::IssuerEnding(_))), "{refused:?}");
}

#[test]
fn leaf_lives_out_of_range_are_refused() {
    let mut place = Place::new();
    for bad in [Duration::from_secs(9), 8 * DAY] {
        place.settings.leaf_ttl = bad;
        assert!(matches!(place.open(), Err(AuthorityError::Setting { setting: "leaf_ttl", .. })));
    }
    assert!(!place.settings.state_dir.exists(), "nothing is made before the settings are good");
}

#[test]
fn extra_roots_are_in_the_bundle_once() {
    let (mut place, other) = (Place::new(), Place::new());
    let roots = [place.open().unwrap().bundle().to_pem(), other.open().unwrap().bundle().to_pem()].concat();
    place.settings.extra_roots = vec![place.write("extra.pem", &roots)];
    let authority = place.open().unwrap();
    assert_eq!(authority.bundle().roots.len(), 2);
    assert_eq!(Some(RootPin::of(&authority.bundle().roots[0])), authority.root_pin(), "the own root first");
    place.settings.extra_roots = vec![place.write("bad.pem", "nothing")];
    drop(authority);
    place.refused("bad.pem");
}
