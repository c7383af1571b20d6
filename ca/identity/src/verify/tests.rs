//! Chains that must be refused, each with its own reason.

use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose};

use super::*;
use crate::testkit::{TestAuthority, leaf_params, uri};
use crate::{RefusalReason, TrustBundle};

const ID: &str = "spiffe://weft.test/ns/shop/sa/web";

fn refused(
    chain: &[CertificateDer<'_>],
    bundles: &TrustBundles,
    now: UnixTime,
) -> (RefusalReason, VerifyError) {
    let error = verify(chain, bundles, now).expect_err("accepted");
    (RefusalReason::from(&error), error)
}

fn at(offset_seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(
        UnixTime::now().as_secs().saturating_add_signed(offset_seconds),
    ))
}

#[test]
fn a_chain_to_the_own_domains_root_is_accepted() {
    let authority = TestAuthority::new("weft.test");
    let id = verify(authority.svid("/ns/shop/sa/web").chain(), &authority.bundles(), at(0));
    assert_eq!(id.unwrap().as_str(), ID);
}

#[test]
fn several_roots_of_one_domain_are_each_accepted() {
    let (old, new) = (TestAuthority::new("weft.test"), TestAuthority::new("weft.test"));
    let mut both = old.bundle();
    both.roots.extend(new.bundle().roots);
    let bundles = TrustBundles::from_iter([both]);
    assert!(verify(old.svid("/a").chain(), &bundles, at(0)).is_ok());
    assert!(verify(new.svid("/a").chain(), &bundles, at(0)).is_ok());
}

#[test]
fn a_foreign_trust_domain_is_refused() {
    let (own, foreign) = (TestAuthority::new("weft.test"), TestAuthority::new("evil.test"));
    let (reason, error) = refused(foreign.svid("/ns/shop/sa/web").chain(), &own.bundles(), at(0));
    assert_eq!(reason, RefusalReason::ForeignTrustDomain);
    assert!(error.to_string().contains("evil.test"), "{error}");
}

#[test]
fn one_trusted_domain_cannot_sign_ids_of_another() {
    let (own, partner) = (TestAuthority::new("weft.test"), TestAuthority::new("partner.test"));
    let bundles = TrustBundles::from_iter([own.bundle(), partner.bundle()]);
    let (forged, _) = partner.sign(leaf_params(ID));
    assert_eq!(refused(&forged, &bundles, at(0)).0, RefusalReason::UnknownIssuer);
    assert!(verify(partner.svid("/a").chain(), &bundles, at(0)).is_ok());
}

#[test]
fn a_root_of_the_same_name_with_another_key_is_an_unknown_issuer() {
    let (own, forger) = (TestAuthority::new("weft.test"), TestAuthority::new("weft.test"));
    let chain = forger.svid("/ns/shop/sa/web");
    assert_eq!(refused(chain.chain(), &own.bundles(), at(0)).0, RefusalReason::UnknownIssuer);
}

#[test]
fn an_empty_or_unreadable_bundle_admits_nobody() {
    let authority = TestAuthority::new("weft.test");
    let domain = authority.bundle().trust_domain;
    for roots in [vec![], vec![CertificateDer::from(b"garbage".to_vec())]] {
        let bundles = TrustBundles::from_iter([TrustBundle { trust_domain: domain.clone(), roots }]);
        assert_eq!(refused(authority.svid("/a").chain(), &bundles, at(0)).0, RefusalReason::UnknownIssuer);
    }
    let nothing = TrustBundles::default();
    assert_eq!(refused(authority.svid("/a").chain(), &nothing, at(0)).0, RefusalReason::ForeignTrustDomain);
}

#[test]
fn before_and_after_its_life_a_certificate_is_refused_with_the_time() {
    let authority = TestAuthority::new("weft.test");
    let svid = authority.svid("/a");
    let (reason, _) = refused(svid.chain(), &authority.bundles(), at(2 * 86_400));
    assert_eq!(reason, RefusalReason::Expired);
    let (reason, error) = refused(svid.chain(), &authority.bundles(), at(-86_400));
    assert_eq!(reason, RefusalReason::NotYetValid);
    assert!(error.to_string().contains("clock"), "{error}");
}

#[test]
fn a_signing_certificate_is_no_peer() {
    let authority = TestAuthority::new("weft.test");
    let mut params = leaf_params(ID);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let (chain, _) = authority.sign(params);
    let (reason, error) = refused(&chain, &authority.bundles(), at(0));
    assert_eq!((reason, error), (RefusalReason::InvalidSvid, VerifyError::Svid(InvalidSvid::IsCa)));
}

#[test]
fn a_leaf_cannot_sign_another_leaf() {
    let authority = TestAuthority::new("weft.test");
    let signer_key = KeyPair::generate().unwrap();
    let signer_params = leaf_params("spiffe://weft.test/ns/shop/sa/evil");
    let (signer_chain, _) = {
        let issuer = rcgen::Issuer::from_params(&signer_params, &signer_key);
        let leaf = leaf_params(ID).signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
        let (mut evil, key) = authority.sign(signer_params.clone());
        evil.insert(0, leaf.der().clone());
        (evil, key)
    };
    let (reason, _) = refused(&signer_chain, &authority.bundles(), at(0));
    assert!(matches!(reason, RefusalReason::InvalidChain | RefusalReason::UnknownIssuer), "{reason}");
}

#[test]
fn a_chain_through_an_intermediate_is_accepted_and_without_it_refused() {
    let root_key = KeyPair::generate().unwrap();
    let root_params = ca("spiffe://weft.test", BasicConstraints::Constrained(1));
    let root = root_params.self_signed(&root_key).unwrap();
    let issuing_key = KeyPair::generate().unwrap();
    let issuing_params = ca("spiffe://weft.test", BasicConstraints::Constrained(0));
    let root_issuer = rcgen::Issuer::from_params(&root_params, &root_key);
    let issuing = issuing_params.signed_by(&issuing_key, &root_issuer).unwrap();
    let issuer = rcgen::Issuer::from_params(&issuing_params, &issuing_key);
    let leaf = leaf_params(ID).signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();

    let bundle = TrustBundle::new("weft.test".parse().unwrap(), vec![root.der().clone()]).unwrap();
    let bundles = TrustBundles::from_iter([bundle]);
    let chain = [leaf.der().clone(), issuing.der().clone()];
    assert_eq!(verify(&chain, &bundles, at(0)).unwrap().as_str(), ID);
    assert_eq!(refused(&chain[..1], &bundles, at(0)).0, RefusalReason::UnknownIssuer);
}

fn ca(id: &str, constraints: BasicConstraints) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, format!("{constraints:?}"));
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.subject_alt_names = vec![uri(id)];
    params
}

#[test]
fn a_chain_longer_than_any_real_one_is_refused_before_a_signature_of_it_is_checked() {
    let authority = TestAuthority::new("weft.test");
    let mut chain = authority.svid("/ns/shop/sa/web").chain().to_vec();
    let filler = TestAuthority::new("filler.test").bundle().roots.remove(0);
    chain.resize(LONGEST_CHAIN, filler.clone());
    assert!(verify(&chain, &authority.bundles(), at(0)).is_ok());
    chain.push(filler);
    let (reason, error) = refused(&chain, &authority.bundles(), at(0));
    assert_eq!((reason, error), (RefusalReason::InvalidChain, VerifyError::ChainTooLong { count: 9 }));
}
