//! Requests that must not be issued for, and what of a request is ignored.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, KeyPair, PKCS_ECDSA_P384_SHA384,
    RsaKeySize, SanType,
};

use super::*;

const ID: &str = "spiffe://weft.test/ns/shop/sa/web";

fn id() -> SpiffeId {
    ID.parse().unwrap()
}

fn request(key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    change(&mut params);
    params.serialize_request(key).unwrap().der().to_vec()
}

#[test]
fn p256_ed25519_and_rsa_2048_are_accepted() {
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let keys = [KeyPair::generate().unwrap(), KeyPair::generate_for(&PKCS_ED25519).unwrap(), rsa];
    for key in keys {
        let csr = Csr::from_der(&request(&key, |_| {})).unwrap();
        assert_eq!(csr.der_bytes(), key.public_key_raw());
        assert_eq!(csr.subject_public_key_info(), key.subject_public_key_info());
    }
}

#[test]
fn other_curves_are_refused_with_what_is_expected() {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let error = Csr::from_der(&request(&key, |_| {})).unwrap_err();
    assert!(matches!(error, InvalidCsr::Key(_)) && error.to_string().contains("P-256"), "{error}");
}

#[test]
fn a_request_that_somebody_else_signed_is_refused() {
    let (victim, thief) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut forged = request(&thief, |_| {});
    let (old, new) = (thief.public_key_raw(), victim.public_key_raw());
    let at = forged.windows(old.len()).position(|window| window == old).unwrap();
    forged[at..at + new.len()].copy_from_slice(new);
    assert_eq!(Csr::from_der(&forged).unwrap_err(), InvalidCsr::Signature);
}

#[test]
fn a_request_that_names_another_id_is_refused_and_the_same_or_none_is_not() {
    let key = KeyPair::generate().unwrap();
    let named = |uris: &[&str]| {
        let names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        Csr::from_der(&request(&key, |params| params.subject_alt_names = names)).unwrap().check_id(&id())
    };
    assert_eq!(named(&[]), Ok(()));
    assert_eq!(named(&[ID]), Ok(()));
    let other = "spiffe://weft.test/ns/shop/sa/admin";
    let refused = Err(InvalidCsr::OtherId { asked: other.to_owned(), attested: id() });
    assert_eq!(named(&[other]), refused);
}

#[test]
fn everything_else_that_a_request_wishes_is_ignored() {
    let key = KeyPair::generate().unwrap();
    let csr = Csr::from_der(&request(&key, |params| {
        params.distinguished_name.push(DnType::CommonName, "root");
        params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
        params.custom_extensions.push(CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![4, 1, 0]));
    }));
    assert_eq!(csr.unwrap().check_id(&id()), Ok(()));
}

#[test]
fn a_request_for_more_than_an_svid_is_refused_with_what_it_asks_for() {
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    let names = |names: Vec<SanType>| {
        Box::new(move |params: &mut CertificateParams| params.subject_alt_names = names)
            as Box<dyn FnOnce(&mut CertificateParams)>
    };
    let rows = [
        (names(vec![SanType::DnsName("bank.test".try_into().unwrap())]), "a DNS name"),
        (names(vec![uri(ID), SanType::DnsName("bank.test".try_into().unwrap())]), "a DNS name"),
        (names(vec![SanType::IpAddress([10, 0, 0, 1].into())]), "an IP address"),
        (names(vec![SanType::Rfc822Name("a@bank.test".try_into().unwrap())]), "a name that is no URI"),
        (names(vec![uri(ID), uri("spiffe://weft.test/ns/shop/sa/admin")]), "several URI names"),
        (
            Box::new(|params: &mut CertificateParams| {
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            }),
            "a CA certificate",
        ),
        (
            Box::new(|params: &mut CertificateParams| {
                params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
            }),
            "a key that signs certificates",
        ),
    ];
    for (change, what) in rows {
        let key = KeyPair::generate().unwrap();
        assert_eq!(Csr::from_der(&request(&key, change)).unwrap_err(), InvalidCsr::Asks(what));
    }
}

#[test]
fn garbage_is_refused_without_a_panic() {
    let good = request(&KeyPair::generate().unwrap(), |_| {});
    for length in 0..good.len() {
        assert!(Csr::from_der(&good[..length]).is_err(), "{length} bytes were accepted");
    }
    // Behind two headers of 3 bytes; outside of it, DER tags may be lenient.
    let signed = 3..6 + usize::from(good[5]);
    for position in 0..good.len() {
        let mut flipped = good.clone();
        flipped[position] ^= 0x01;
        let read = Csr::from_der(&flipped);
        assert!(read.is_err() || !signed.contains(&position), "a flip at {position} was accepted");
    }
    assert!(matches!(Csr::from_der(&vec![0x30; MAX_BYTES + 1]), Err(InvalidCsr::TooLong(_))));
    assert!(matches!(Csr::from_der(&[good, vec![0]].concat()), Err(InvalidCsr::Unreadable(_))));
}
