//! What a known issuer saves, and that it lets in nobody whom the whole chain would not.

use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, Issuer as Signer, KeyPair, KeyUsagePurpose};
use time::OffsetDateTime;

use super::*;
use crate::testkit::{leaf_params, uri};
use crate::verify::{Anchors, VerifyError};
use crate::{TrustBundle, TrustBundles};

const ID: &str = "spiffe://weft.test/ns/shop/sa/web";

/// A root, an issuing certificate that is valid for a day and two hours, and who is known.
struct Domain {
    issuing: (CertificateParams, KeyPair, CertificateDer<'static>),
    anchors: Anchors,
}

fn ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = rcgen::IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.subject_alt_names = vec![uri("spiffe://weft.test")];
    params.not_before = OffsetDateTime::now_utc() - time::Duration::HOUR;
    params.not_after = OffsetDateTime::now_utc() + time::Duration::DAY + time::Duration::HOUR;
    params
}

impl Domain {
    fn new() -> Self {
        let (root_params, root_key) = (ca("root"), KeyPair::generate().unwrap());
        let root = root_params.self_signed(&root_key).unwrap();
        let (params, key) = (ca("issuing"), KeyPair::generate().unwrap());
        let issuing = params.signed_by(&key, &Signer::from_params(&root_params, &root_key)).unwrap();
        let bundle = TrustBundle::new("weft.test".parse().unwrap(), vec![root.der().clone()]).unwrap();
        let anchors = Anchors::of(&TrustBundles::from_iter([bundle]));
        Self { issuing: (params, key, issuing.der().clone()), anchors }
    }

    fn chain(&self, leaf: &CertificateParams) -> Vec<CertificateDer<'static>> {
        self.signed_with(leaf, &self.issuing.1)
    }

    fn signed_with(&self, leaf: &CertificateParams, key: &KeyPair) -> Vec<CertificateDer<'static>> {
        let signer = Signer::from_params(&self.issuing.0, key);
        let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &signer).unwrap();
        vec![leaf.der().clone(), self.issuing.2.clone()]
    }

    fn known(&self) -> usize {
        self.anchors.issuers(&"weft.test".parse().unwrap()).unwrap().0.read().unwrap().len()
    }

    fn verify(&self, chain: &[CertificateDer<'_>], hours: i64) -> Result<(), VerifyError> {
        let now = UnixTime::now().as_secs().saturating_add_signed(hours * 3600);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
        self.anchors.verify(chain, now, Role::Client).map(drop)
    }
}

/// A domain whose issuer is known.
fn acquainted() -> Domain {
    let domain = Domain::new();
    domain.verify(&domain.chain(&leaf_params(ID)), 0).unwrap();
    assert_eq!(domain.known(), 1);
    domain
}

#[test]
fn an_issuer_is_known_after_its_first_leaf_and_serves_the_next() {
    let domain = acquainted();
    let chain = domain.chain(&leaf_params(ID));
    let issuers = domain.anchors.issuers(&"weft.test".parse().unwrap()).unwrap();
    assert!(issuers.of(&chain, UnixTime::now(), Role::Client).is_some());
    assert!(issuers.of(&chain, UnixTime::now(), Role::Server).is_none(), "each usage is checked by itself");
    domain.verify(&chain, 0).unwrap();
    assert_eq!(domain.known(), 1);
}

#[test]
fn a_refused_chain_makes_no_issuer_known() {
    let domain = Domain::new();
    assert!(domain.verify(&domain.signed_with(&leaf_params(ID), &KeyPair::generate().unwrap()), 0).is_err());
    assert!(domain.verify(&domain.chain(&leaf_params(ID)), 48).is_err());
    let stranger = Domain::new();
    assert!(domain.verify(&stranger.chain(&leaf_params(ID)), 0).is_err());
    assert_eq!(domain.known(), 0);
}

#[test]
fn a_leaf_that_names_a_known_issuer_but_is_not_signed_by_it_is_refused() {
    let domain = acquainted();
    let forged = domain.signed_with(&leaf_params(ID), &KeyPair::generate().unwrap());
    assert!(matches!(domain.verify(&forged, 0), Err(VerifyError::UnknownIssuer { .. })));
}

#[test]
fn under_a_known_issuer_time_and_usage_of_the_leaf_count_as_ever() {
    let domain = acquainted();
    let mut short = leaf_params(ID);
    short.not_after = OffsetDateTime::now_utc() - time::Duration::MINUTE;
    assert!(matches!(domain.verify(&domain.chain(&short), 0), Err(VerifyError::Expired { .. })));
    let mut server = leaf_params(ID);
    server.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::CodeSigning];
    assert!(domain.verify(&domain.chain(&server), 0).is_err());
}

#[test]
fn a_known_issuer_that_is_over_or_not_yet_valid_vouches_for_nobody() {
    let domain = acquainted();
    let mut long = leaf_params(ID);
    long.not_before = OffsetDateTime::now_utc() - time::Duration::DAY;
    long.not_after = OffsetDateTime::now_utc() + 7 * time::Duration::DAY;
    let chain = domain.chain(&long);
    assert!(domain.verify(&chain, 0).is_ok());
    assert!(matches!(domain.verify(&chain, 26), Err(VerifyError::Expired { .. })));
    assert!(matches!(domain.verify(&chain, -2), Err(VerifyError::NotYetValid { .. })));
}

#[test]
fn a_longer_way_to_the_root_is_checked_in_full_each_time_and_few_are_remembered() {
    let domain = acquainted();
    let issuers = domain.anchors.issuers(&"weft.test".parse().unwrap()).unwrap();
    let (params, key) = (ca("below"), KeyPair::generate().unwrap());
    let below = params.signed_by(&key, &Signer::from_params(&domain.issuing.0, &domain.issuing.1)).unwrap();
    let leaf = leaf_params(ID)
        .signed_by(&KeyPair::generate().unwrap(), &Signer::from_params(&params, &key))
        .unwrap();
    let chain = [leaf.der().clone(), below.der().clone(), domain.issuing.2.clone()];
    domain.verify(&chain, 0).unwrap();
    assert_eq!(domain.known(), 1);
    assert!(issuers.of(&chain, UnixTime::now(), Role::Client).is_none());
}
