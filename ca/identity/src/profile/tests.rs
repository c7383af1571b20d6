//! One test a rule of the profile: a leaf that breaks it and nothing else.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose,
};

use super::*;
use crate::testkit::{TestAuthority, leaf_params, uri};

const ID: &str = "spiffe://weft.test/ns/shop/sa/web";

fn id_of(change: impl FnOnce(&mut CertificateParams)) -> Result<SpiffeId, InvalidSvid> {
    let mut params = leaf_params(ID);
    change(&mut params);
    peer_id(&TestAuthority::new("weft.test").sign(params).0)
}

/// A key usage extension of these bits that is not critical; rcgen makes only critical ones.
fn soft_key_usage(bits: &[u8]) -> CustomExtension {
    CustomExtension::from_oid_content(&[2, 5, 29, 15], bits.to_vec())
}

#[test]
fn a_leaf_that_keeps_the_profile_has_its_id() {
    assert_eq!(id_of(|_| {}).unwrap().as_str(), ID);
}

#[test]
fn a_dns_name_beside_the_id_does_no_harm() {
    let id = id_of(|params| {
        params.subject_alt_names.push(rcgen::SanType::DnsName("web.test".try_into().unwrap()))
    });
    assert_eq!(id.unwrap().as_str(), ID);
}

#[test]
fn two_uris_are_refused_and_so_is_none() {
    let two = id_of(|params| params.subject_alt_names.push(uri("spiffe://weft.test/ns/shop/sa/admin")));
    assert_eq!(two, Err(InvalidSvid::UriCount(2)));
    let twice_the_same = id_of(|params| params.subject_alt_names.push(uri(ID)));
    assert_eq!(twice_the_same, Err(InvalidSvid::UriCount(2)));
    assert_eq!(id_of(|params| params.subject_alt_names.clear()), Err(InvalidSvid::UriCount(0)));
}

#[test]
fn a_uri_that_is_no_spiffe_id_is_refused() {
    for bad in ["https://weft.test/a", "spiffe://weft.test/%41", "spiffe://weft.test/a/"] {
        let refused = id_of(|params| params.subject_alt_names = vec![uri(bad)]);
        assert!(matches!(refused, Err(InvalidSvid::Id(_))), "{bad}: {refused:?}");
    }
}

#[test]
fn an_id_without_a_path_is_refused() {
    let refused = id_of(|params| params.subject_alt_names = vec![uri("spiffe://weft.test")]);
    assert!(matches!(refused, Err(InvalidSvid::NoPath(_))), "{refused:?}");
}

#[test]
fn a_ca_certificate_is_refused() {
    let refused = id_of(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert_eq!(refused, Err(InvalidSvid::IsCa));
}

#[test]
fn key_usage_must_be_there_critical_and_for_signatures_only() {
    let usage = |usages: Vec<KeyUsagePurpose>| id_of(|params| params.key_usages = usages);
    let refused = |reason| Err(InvalidSvid::KeyUsage(reason));
    assert_eq!(usage(vec![]), refused("it is missing"));
    assert_eq!(usage(vec![KeyUsagePurpose::KeyAgreement]), refused("digitalSignature is missing"));
    for signing in [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign] {
        let both = usage(vec![KeyUsagePurpose::DigitalSignature, signing]);
        assert_eq!(both, refused("it allows to sign certificates or CRLs"));
    }
    let soft = id_of(|params| {
        params.key_usages.clear();
        // BIT STRING of one bit: digitalSignature.
        params.custom_extensions.push(soft_key_usage(&[0x03, 0x02, 0x07, 0x80]));
    });
    assert_eq!(soft, refused("it is not critical"));
}

#[test]
fn extended_key_usage_may_be_absent_but_not_half() {
    let usage = |usages: Vec<ExtendedKeyUsagePurpose>| id_of(|params| params.extended_key_usages = usages);
    assert!(usage(vec![]).is_ok());
    let client = usage(vec![ExtendedKeyUsagePurpose::ClientAuth]);
    assert_eq!(client, Err(InvalidSvid::ExtendedKeyUsage("serverAuth")));
    let server = usage(vec![ExtendedKeyUsagePurpose::ServerAuth]);
    assert_eq!(server, Err(InvalidSvid::ExtendedKeyUsage("clientAuth")));
}

#[test]
fn an_empty_subject_needs_a_critical_name() {
    // SEQUENCE of one [6] URI.
    let mut names = vec![0x30, (ID.len() + 2) as u8, 0x86, ID.len() as u8];
    names.extend(ID.as_bytes());
    let soft = CustomExtension::from_oid_content(&[2, 5, 29, 17], names);
    let empty = id_of(|params| {
        params.subject_alt_names.clear();
        params.custom_extensions.push(soft.clone());
    });
    assert_eq!(empty, Err(InvalidSvid::SanNotCritical));
    let named = id_of(|params| {
        params.subject_alt_names.clear();
        params.custom_extensions.push(soft);
        params.distinguished_name.push(DnType::CommonName, "web");
    });
    assert_eq!(named.unwrap().as_str(), ID);
}

#[test]
fn an_extension_twice_is_refused() {
    let mut names = vec![0x30, (ID.len() + 2) as u8, 0x86, ID.len() as u8];
    names.extend(ID.as_bytes());
    let again = CustomExtension::from_oid_content(&[2, 5, 29, 17], names);
    let refused = id_of(|params| params.custom_extensions.push(again));
    assert!(matches!(refused, Err(InvalidSvid::Unreadable(_))), "{refused:?}");
}

#[test]
fn garbage_and_trailing_bytes_are_refused_without_a_panic() {
    assert_eq!(peer_id(&[]), Err(InvalidSvid::NoCertificate));
    let good = TestAuthority::new("weft.test").sign(leaf_params(ID)).0.remove(0);
    for length in 0..good.len() {
        let cut = CertificateDer::from(good[..length].to_vec());
        assert!(peer_id(&[cut]).is_err(), "{length} bytes were accepted");
    }
    let longer = CertificateDer::from([good.as_ref(), b"x"].concat());
    assert!(matches!(peer_id(&[longer]), Err(InvalidSvid::Unreadable(_))));
}
