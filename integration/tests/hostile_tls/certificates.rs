//! Certificates that a peer must not get in with, one row each, made with the mesh's own keys where that is the worst case.

use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose as Extended,
    IsCa, Issuer, KeyPair, KeyUsagePurpose as Usage, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use weft_identity::{certificates_from_pem, key_from_pem};
use weft_integration::Mesh;

/// Who the rows pretend to be: a workload of the mesh, and the one that callers expect.
pub(crate) const API: &str = "spiffe://test.weft/ns/default/sa/api";

/// A certificate authority: its key, and what a leaf of it is presented with.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: String,
}

impl Ca {
    /// The mesh's own: its issuing certificate.
    pub(crate) fn of(mesh: &Mesh) -> Result<Self> {
        let pem = std::fs::read_to_string(mesh.state().join("ca/issuing.pem"))?;
        let chain = certificates_from_pem(&pem)?;
        let key = KeyPair::try_from(&key_from_pem(&pem)?)?;
        let pem = key.serialize_pem();
        let issuer = Issuer::from_ca_cert_der(chain.first().context("an issuing certificate")?, key)?;
        Ok(Self { issuer, chain, key: pem })
    }

    /// Somebody else's, which says that it is the root of this domain.
    pub(crate) fn stranger(domain: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let params = authority(&format!("spiffe://{domain}"))?;
        let (chain, pem) = (vec![params.self_signed(&key)?.der().clone()], key.serialize_pem());
        Ok(Self { issuer: Issuer::new(params, key), chain, key: pem })
    }

    /// A leaf of these parameters with its key, and what leads to the root.
    pub(crate) fn sign(&self, params: &CertificateParams) -> Result<Presented> {
        let key = KeyPair::generate()?;
        let mut chain = vec![params.signed_by(&key, &self.issuer)?.der().clone()];
        chain.extend(self.chain.iter().cloned());
        Ok(Presented { chain, key: key.serialize_der() })
    }

    /// A leaf of this id that keeps the profile, but for `change`.
    pub(crate) fn leaf(&self, id: &str, change: impl FnOnce(&mut CertificateParams)) -> Result<Presented> {
        let mut params = leaf(id)?;
        change(&mut params);
        self.sign(&params)
    }
}

/// What a peer shows.
#[derive(Clone)]
pub(crate) struct Presented {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// PKCS #8.
    key: Vec<u8>,
}

impl Presented {
    /// As rustls sends it, right or wrong.
    pub(crate) fn certified(&self) -> Result<Arc<CertifiedKey>> {
        let key = PrivateKeyDer::Pkcs8(self.key.clone().into());
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)?;
        Ok(Arc::new(CertifiedKey::new(self.chain.clone(), key)))
    }
}

/// One wrong certificate and the reason that it is refused for, on either side.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) presented: Presented,
    pub(crate) reason: &'static str,
}

fn leaf(id: &str) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![Usage::DigitalSignature];
    params.extended_key_usages = vec![Extended::ServerAuth, Extended::ClientAuth];
    params.subject_alt_names = vec![SanType::URI(id.try_into()?)];
    params.not_before = (std::time::SystemTime::now() - HOUR).into();
    params.not_after = (std::time::SystemTime::now() + HOUR).into();
    Ok(params)
}

fn authority(name: &str) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "a stranger");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![Usage::KeyCertSign, Usage::CrlSign];
    params.subject_alt_names = vec![SanType::URI(name.try_into()?)];
    Ok(params)
}

const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

/// Every one of them.
pub(crate) fn rows(mesh: &Ca) -> Result<Vec<Row>> {
    let row = |name, presented, reason| Row { name, presented, reason };
    let broken = |name, reason, change: &dyn Fn(&mut CertificateParams)| {
        anyhow::Ok(row(name, mesh.leaf(API, change)?, reason))
    };
    let mut rows = vec![
        broken("expired", "expired", &|leaf| {
            leaf.not_after = (std::time::SystemTime::now() - HOUR / 60).into()
        })?,
        broken("not yet valid", "not_yet_valid", &|leaf| {
            leaf.not_before = (std::time::SystemTime::now() + HOUR / 60).into()
        })?,
        broken("key usage: none", "invalid_svid", &|leaf| leaf.key_usages.clear())?,
        broken("key usage: encryption only", "invalid_svid", &|leaf| {
            leaf.key_usages = vec![Usage::KeyEncipherment]
        })?,
        broken("key usage: may sign certificates", "invalid_svid", &|leaf| {
            leaf.key_usages.push(Usage::KeyCertSign)
        })?,
        broken("extended key usage: server only", "invalid_svid", &|leaf| {
            leaf.extended_key_usages = vec![Extended::ServerAuth]
        })?,
        broken("extended key usage: client only", "invalid_svid", &|leaf| {
            leaf.extended_key_usages = vec![Extended::ClientAuth]
        })?,
        broken("extended key usage: mail", "invalid_svid", &|leaf| {
            leaf.extended_key_usages = vec![Extended::EmailProtection]
        })?,
        broken("CA certificate with a workload's id", "invalid_svid", &|leaf| {
            leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)
        })?,
        broken("no alternative name", "invalid_svid", &|leaf| {
            leaf.subject_alt_names.clear();
            leaf.distinguished_name.push(DnType::CommonName, API);
        })?,
    ];
    rows.extend(names(mesh)?);
    rows.extend(chains(mesh)?);
    Ok(rows)
}

/// What stands where the id should.
fn names(mesh: &Ca) -> Result<Vec<Row>> {
    let uri = |text: &str| anyhow::Ok(SanType::URI(text.try_into()?));
    let dns = SanType::DnsName("api.default.svc".try_into()?);
    let long = format!("spiffe://test.weft/ns/default/sa/{}", "a".repeat(2100));
    let wrong: Vec<(&'static str, Vec<SanType>, &'static str)> = vec![
        ("two URI names", vec![uri(API)?, uri("spiffe://test.weft/ns/default/sa/web")?], "invalid_svid"),
        ("the same URI name twice", vec![uri(API)?, uri(API)?], "invalid_svid"),
        ("a DNS name only", vec![dns], "invalid_svid"),
        ("a URI of the web", vec![uri("https://test.weft/ns/default/sa/api")?], "invalid_svid"),
        ("an id with a query", vec![uri("spiffe://test.weft/ns/default/sa/api?x=1")?], "invalid_svid"),
        ("an id with a fragment", vec![uri("spiffe://test.weft/ns/default/sa/api#x")?], "invalid_svid"),
        ("an id with a port", vec![uri("spiffe://test.weft:443/ns/default/sa/api")?], "invalid_svid"),
        ("an id with a user", vec![uri("spiffe://u@test.weft/ns/default/sa/api")?], "invalid_svid"),
        ("an id with an encoded byte", vec![uri("spiffe://test.weft/ns/default/sa/%61pi")?], "invalid_svid"),
        ("an id with dots", vec![uri("spiffe://test.weft/ns/x/../default/sa/api")?], "invalid_svid"),
        ("an id with an empty segment", vec![uri("spiffe://test.weft/ns//default/sa/api")?], "invalid_svid"),
        ("an id without a path", vec![uri("spiffe://test.weft")?], "invalid_svid"),
        ("an id in capitals", vec![uri("SPIFFE://TEST.WEFT/ns/default/sa/api")?], "invalid_svid"),
        ("an id of more than 2048 bytes", vec![uri(&long)?], "invalid_svid"),
        (
            "another trust domain, of our own key",
            vec![uri("spiffe://evil.test/ns/default/sa/api")?],
            "foreign_trust_domain",
        ),
        (
            "a trust domain that begins as ours",
            vec![uri("spiffe://test.weft.evil/ns/default/sa/api")?],
            "foreign_trust_domain",
        ),
    ];
    let row = |(name, names, reason): (&'static str, Vec<SanType>, &'static str)| {
        Ok(Row { name, presented: mesh.leaf(API, |leaf| leaf.subject_alt_names = names)?, reason })
    };
    wrong.into_iter().map(row).collect()
}

/// What is wrong with the way to the root.
fn chains(mesh: &Ca) -> Result<Vec<Row>> {
    let good = || mesh.leaf(API, |_| {});
    let (same, foreign) = (Ca::stranger(Mesh::TRUST_DOMAIN)?, Ca::stranger("evil.test")?);
    let mut alone = good()?;
    alone.chain.truncate(1);
    let mut other_issuer = good()?;
    other_issuer.chain = [&other_issuer.chain[..1], &same.chain].concat();
    let mut stolen = good()?;
    stolen.key = KeyPair::generate()?.serialize_der();
    let mut padded = good()?;
    let mut bytes = padded.chain[0].to_vec();
    bytes.extend(b"more");
    padded.chain[0] = bytes.into();
    let mut long = good()?;
    for _ in 0..100 {
        long.chain.push(same.chain[0].clone());
    }
    let mut large = good()?;
    large.chain.push(vec![0x30; 80 << 10].into());
    let key = KeyPair::generate()?;
    let self_signed =
        Presented { chain: vec![leaf(API)?.self_signed(&key)?.der().clone()], key: key.serialize_der() };
    let issuing = Presented { chain: mesh.chain.clone(), key: KeyPair::from_pem(&mesh.key)?.serialize_der() };
    let rows = [
        ("self-signed", self_signed, "unknown_issuer"),
        ("another root of the same name", same.leaf(API, |_| {})?, "unknown_issuer"),
        (
            "another root and domain",
            foreign.leaf("spiffe://evil.test/ns/default/sa/api", |_| {})?,
            "foreign_trust_domain",
        ),
        ("the issuer is left out", alone, "unknown_issuer"),
        ("another issuer in its place", other_issuer, "unknown_issuer"),
        ("signed by a workload", signed_by_a_workload(mesh)?, "invalid_chain"),
        ("the issuing certificate itself", issuing, "invalid_svid"),
        ("somebody else's certificate", stolen, "invalid_chain"),
        ("bytes after the leaf", padded, "invalid_svid"),
        ("102 certificates", long, "invalid_chain"),
        ("80 KiB of certificates", large, "invalid_chain"),
    ];
    Ok(rows.map(|(name, presented, reason)| Row { name, presented, reason }).into())
}

/// A workload that plays CA with its own good certificate.
fn signed_by_a_workload(mesh: &Ca) -> Result<Presented> {
    let workload = mesh.leaf("spiffe://test.weft/ns/default/sa/web", |_| {})?;
    let key = KeyPair::try_from(&PrivateKeyDer::Pkcs8(workload.key.clone().into()))?;
    // Its key as an issuer that may sign, whatever its certificate says.
    let mut params = authority("spiffe://test.weft")?;
    params.distinguished_name = DistinguishedName::new();
    let minted = KeyPair::generate()?;
    let leaf = leaf(API)?.signed_by(&minted, &Issuer::new(params, key))?;
    let chain = std::iter::once(leaf.der().clone()).chain(workload.chain).collect();
    Ok(Presented { chain, key: minted.serialize_der() })
}
