//! Certificate requests that must not be granted: each is a row with its code and the reason that is counted.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P384_SHA384, SanType,
};
use tonic::Code;
use weft_identity::new_key_and_csr;
use weft_integration::eventually;
use weft_proto::ca::v1 as ca;
use weft_proto::ca::v1::issue_request::Attestation;

use crate::world::{World, ask, by_token, refused};

const REFUSED: &str = "weft_control_ca_refused_total";
const WEB: &str = "spiffe://test.weft/ns/default/sa/web";

fn request(change: impl FnOnce(&mut CertificateParams)) -> Result<Vec<u8>> {
    request_with(&KeyPair::generate()?, change)
}

fn request_with(key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Result<Vec<u8>> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    change(&mut params);
    Ok(params.serialize_request(key)?.der().to_vec())
}

fn names(names: Vec<SanType>) -> Result<Vec<u8>> {
    request(|params| params.subject_alt_names = names)
}

fn uri(text: &str) -> Result<SanType> {
    Ok(SanType::URI(text.try_into()?))
}

/// A request whose key is somebody else's.
fn stolen_key() -> Result<Vec<u8>> {
    use rcgen::PublicKeyData;
    let (victim, thief) = (KeyPair::generate()?, KeyPair::generate()?);
    let mut forged = request_with(&thief, |_| {})?;
    let (old, new) = (thief.der_bytes(), victim.der_bytes());
    let at = forged.windows(old.len()).position(|window| window == old).context("the key is in it")?;
    forged.splice(at..at + old.len(), new.iter().copied());
    Ok(forged)
}

/// A name, a request, the status that refuses it, and the reason that is counted.
type Row = (&'static str, Vec<u8>, Code, &'static str);

/// Requests for what is not the asker's.
fn names_and_rights() -> Result<Vec<Row>> {
    let dns = || Ok::<_, anyhow::Error>(SanType::DnsName("bank.test".try_into()?));
    let invalid = Code::InvalidArgument;
    Ok(vec![
        ("a DNS name", names(vec![dns()?])?, invalid, "csr_asks"),
        ("a DNS name beside the id", names(vec![uri(WEB)?, dns()?])?, invalid, "csr_asks"),
        ("an IP address", names(vec![SanType::IpAddress([127, 0, 0, 1].into())])?, invalid, "csr_asks"),
        (
            "another id",
            names(vec![uri("spiffe://test.weft/ns/default/sa/admin")?])?,
            Code::PermissionDenied,
            "csr_other_id",
        ),
        (
            "the control plane's id",
            names(vec![uri("spiffe://test.weft/ns/weft-system/sa/weft-control")?])?,
            Code::PermissionDenied,
            "csr_other_id",
        ),
        (
            "an id of another mesh",
            names(vec![uri("spiffe://other.test/ns/default/sa/web")?])?,
            Code::PermissionDenied,
            "csr_other_id",
        ),
        (
            "two ids",
            names(vec![uri(WEB)?, uri("spiffe://test.weft/ns/default/sa/admin")?])?,
            invalid,
            "csr_asks",
        ),
        (
            "a CA",
            request(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))?,
            invalid,
            "csr_asks",
        ),
        (
            "a key that signs",
            request(|params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign])?,
            invalid,
            "csr_asks",
        ),
    ])
}

/// Keys, signatures and bytes that are none.
fn keys_and_bytes() -> Result<Vec<Row>> {
    let good = || request(|_| {});
    let mut broken = good()?;
    let last = broken.len() - 1;
    broken[last] ^= 1;
    let pem = "-----BEGIN CERTIFICATE REQUEST-----\nMIHY\n-----END CERTIFICATE REQUEST-----\n";
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?;
    let invalid = Code::InvalidArgument;
    Ok(vec![
        ("RSA of 1024 bits", include_bytes!("testdata/rsa1024.der").to_vec(), invalid, "csr_key"),
        ("P-192", include_bytes!("testdata/p192.der").to_vec(), invalid, "csr_key"),
        ("P-384", request_with(&p384, |_| {})?, invalid, "csr_key"),
        ("Ed448", include_bytes!("testdata/ed448.der").to_vec(), invalid, "csr_key"),
        (
            "a signature with SHA-1",
            include_bytes!("testdata/rsa2048-sha1.der").to_vec(),
            invalid,
            "csr_signature",
        ),
        ("a broken signature", broken, invalid, "csr_signature"),
        ("another's key", stolen_key()?, invalid, "csr_signature"),
        ("bytes after it", [good()?, vec![0]].concat(), invalid, "csr_unreadable"),
        ("PEM", pem.as_bytes().to_vec(), invalid, "csr_unreadable"),
        ("nothing", Vec::new(), invalid, "csr_unreadable"),
        ("20 kB", vec![0x30; 20 << 10], invalid, "csr_unreadable"),
    ])
}

#[tokio::test]
async fn each_bad_request_is_refused_counted_and_does_not_cost_the_token() -> Result<()> {
    let world = World::start("").await?;
    let token = world.token("default/web", 600).await?.to_string();
    let mut client = world.stranger().await?;
    for (what, csr, code, reason) in [names_and_rights()?, keys_and_bytes()?].concat() {
        let before = world.metric(REFUSED, &format!("\"{reason}\"")).await?;
        refused(ask(&mut client, csr, by_token(token.clone())).await, code).context(what)?;
        world.counted(REFUSED, reason, before).await.context(what)?;
    }
    // More than a message may have: tonic's own refusal, before anything of ours sees it.
    refused(ask(&mut client, vec![0x30; 80 << 10], by_token(token.clone())).await, Code::OutOfRange)?;
    let issued = ask(&mut client, new_key_and_csr(None)?.1, by_token(token)).await?;
    ensure!(!issued.chain.is_empty(), "the token is not spent");
    ensure!(world.metric("weft_control_ca_issued_total", "join_token").await? == 1.0);
    ensure!(world.metric("weft_control_ca_sign_seconds_count", "").await? == 1.0);
    Ok(())
}

#[tokio::test]
async fn each_bad_proof_is_refused_and_counted() -> Result<()> {
    let world = World::start("").await?;
    let mut client = world.stranger().await?;
    let csr = || new_key_and_csr(None).map(|(_, csr)| csr);
    let used = world.token("default/web", 600).await?.to_string();
    ask(&mut client, csr()?, by_token(used.clone())).await?;
    let known = world.token("default/web", 600).await?.to_string();
    let mut parts: Vec<&str> = known.split('.').collect();
    let wrong =
        weft_identity::JoinToken::random(known.parse::<weft_identity::JoinToken>()?.pin()).to_string();
    parts[2] = wrong.split('.').nth(2).context("a secret")?;
    let swapped = parts.join(".");
    let late = world.token("default/web", 1).await?;
    eventually("the token is over", async || {
        let tokens = world.mesh.admin("/v1/tokens").await?;
        let over = |one: &serde_json::Value| one["id"] == late.id() && one["state"] == "expired";
        Ok(tokens.as_array().is_some_and(|all| all.iter().any(over)).then_some(()))
    })
    .await?;
    let consul = |registry: &str| {
        let leaf = ca::ConsulLeaf { registry: registry.to_owned(), ..ca::ConsulLeaf::default() };
        Some(Attestation::ConsulLeaf(leaf))
    };
    let denied = Code::PermissionDenied;
    let rows = [
        ("a used token", by_token(used), denied, "token_used"),
        ("an unknown token", by_token(wrong), denied, "token_unknown"),
        ("a wrong secret", by_token(swapped), denied, "token_wrong_secret"),
        ("an expired token", by_token(late.to_string()), denied, "token_expired"),
        ("no token", by_token("../../../etc/passwd".to_owned()), denied, "token_invalid"),
        ("60 kB of token", by_token("x".repeat(60 << 10)), denied, "token_invalid"),
        ("a renewal by nobody", Some(Attestation::Renewal(ca::Renewal {})), denied, "no_certificate"),
        ("a Consul of no registry", consul("consul/dc1"), denied, "consul_leaf"),
        ("no proof", None, Code::InvalidArgument, "no_attestation"),
    ];
    for (what, attestation, code, reason) in rows {
        let before = world.metric(REFUSED, &format!("\"{reason}\"")).await?;
        let answer = ask(&mut client, csr()?, attestation).await;
        let said = answer.as_ref().err().map(|status| status.message().to_owned()).unwrap_or_default();
        refused(answer, code).context(what)?;
        // Nobody learns which of it was wrong.
        ensure!(code != denied || said == "not attested", "{what}: {said}");
        world.counted(REFUSED, reason, before).await.context(what)?;
    }
    ensure!(std::fs::read_to_string(world.mesh.path().join("control.log"))?.contains("ALARM"));
    ask(&mut client, csr()?, by_token(known)).await.context("the true secret still works")?;
    Ok(())
}

#[tokio::test]
async fn a_renewal_is_for_its_own_identity_and_while_its_certificate_lives() -> Result<()> {
    let world = World::start("[ca]\nleaf_ttl = \"10s\"\n").await?;
    let evil = world.member("default/evil").await?;
    let mut client = evil.ca().await?;
    let renewal = || Some(Attestation::Renewal(ca::Renewal {}));
    let other = names(vec![uri(WEB)?])?;
    refused(ask(&mut client, other, renewal()).await, Code::PermissionDenied)?;
    ask(&mut client, new_key_and_csr(None)?.1, renewal()).await?;
    // The connection outlives its certificate.
    eventually("the certificate is over", async || {
        match ask(&mut client, new_key_and_csr(None)?.1, renewal()).await {
            Ok(_) => {
                tokio::time::sleep(Duration::from_millis(300)).await;
                Ok(None)
            }
            Err(status) if status.code() == Code::PermissionDenied => Ok(Some(())),
            Err(status) => Err(status.into()),
        }
    })
    .await?;
    world.counted(REFUSED, "certificate_over", 0.0).await
}

#[tokio::test]
async fn floods_are_limited_and_counted() -> Result<()> {
    let limits = "[ca.limits.per_address]\nper_second = 0.001\nburst = 12\n\
                  [ca.limits.per_identity]\nper_second = 0.001\nburst = 2\n";
    let world = World::start(limits).await?;
    let mut client = world.stranger().await?;
    let csr = || new_key_and_csr(None).map(|(_, csr)| csr);
    for _ in 0..2 {
        ask(&mut client, csr()?, by_token(world.token("default/web", 60).await?.to_string())).await?;
    }
    let spared = world.token("default/web", 60).await?;
    refused(ask(&mut client, csr()?, by_token(spared.to_string())).await, Code::ResourceExhausted)?;
    let tokens = world.mesh.admin("/v1/tokens").await?;
    let unused = |one: &serde_json::Value| one["id"] == spared.id() && one["state"] == "unused";
    ensure!(
        tokens.as_array().is_some_and(|all| all.iter().any(unused)),
        "the refusal cost the token: {tokens}"
    );
    ask(&mut client, csr()?, by_token(world.token("default/api", 60).await?.to_string())).await?;
    for _ in 0..8 {
        refused(ask(&mut client, csr()?, by_token("guess".to_owned())).await, Code::PermissionDenied)?;
    }
    for _ in 0..3 {
        refused(ask(&mut client, csr()?, by_token("guess".to_owned())).await, Code::ResourceExhausted)?;
    }
    world.counted(REFUSED, "too_many", 3.0).await
}
