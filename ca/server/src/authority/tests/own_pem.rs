//! An operator's own certificates and keys.

use super::*;

struct Pki {
    root: (CertificateParams, KeyPair, String),
    issuing_pem: String,
    issuing_key: KeyPair,
}

fn ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    params
}

/// A user's PKI: the root names no trust domain, which is allowed.
fn pki() -> Pki {
    let (params, key) = (ca("company root"), KeyPair::generate().unwrap());
    let pem = params.self_signed(&key).unwrap().pem();
    let issuing_key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let issuer = Issuer::from_params(&params, &key);
    let issuing_pem = ca("company mesh").signed_by(&issuing_key, &issuer).unwrap().pem();
    Pki { root: (params, key, pem), issuing_pem, issuing_key }
}

fn place(pki: &Pki, chain: &str, key: &str) -> Place {
    let mut place = Place::new();
    let roots = place.write("roots.pem", &pki.root.2);
    let (chain, key) = (place.write("chain.pem", chain), place.write("key.pem", key));
    place.settings.own_pem = Some(OwnPem { roots, chain, key });
    place
}

#[test]
fn the_users_certificates_issue_valid_leaves_and_no_keys_are_made() {
    let (pki, now) = (pki(), SystemTime::now());
    // A chain file that holds the root as well, as many do.
    let chain = format!("{}{}", pki.issuing_pem, pki.root.2);
    let place = place(&pki, &chain, &pki.issuing_key.serialize_pem());
    let authority = place.open().unwrap();
    let issued = authority.issue(&csr(), &id("/a"), now).unwrap();
    assert_eq!(issued.chain.len(), 2);
    assert_eq!(accepted(&authority, &issued.chain, now), Ok(id("/a")));
    assert!(!place.file(ROOT).exists());
    assert!(!authority.renew_issuing(now + 100_000 * DAY).unwrap(), "that is the user's part");
}

#[test]
fn what_does_not_fit_together_is_refused_by_file() {
    let (pki, other) = (pki(), pki_other());
    let good_key = pki.issuing_key.serialize_pem();
    place(&pki, &pki.issuing_pem, &other.issuing_key.serialize_pem()).refused("chain.pem");
    place(&pki, &other.issuing_pem, &other.issuing_key.serialize_pem()).refused("chain.pem");
    place(&pki, &pki.root.2, &pki.root.1.serialize_pem()).refused("chain.pem");
    place(&pki, &pki.issuing_pem, "").refused("key.pem");
    place(&pki, "", &good_key).refused("chain.pem");
    let missing = place(&pki, &pki.issuing_pem, &good_key);
    fs::remove_file(missing.temporary.path().join("roots.pem")).unwrap();
    missing.refused("roots.pem");
}

fn pki_other() -> Pki {
    pki()
}
