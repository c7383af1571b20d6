//! The Consul attestor: against a Connect CA of our own that can lie, and against real Consul.

use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P384_SHA384};
use rustls_pki_types::PrivateKeyDer;
use serde_json::json;
use weft_identity::testkit::{TestAuthority, leaf_params};
use weft_identity::{certificates_from_pem, key_from_pem, new_key_and_csr, sign_consul_attestation};
use weft_registry_consul::testkit::{ConsulOptions, ConsulServer, ConsulVersion};
use weft_registry_consul::{ConsulClient, ConsulSettings};

use super::*;

const DOMAIN: &str = "1111-2222.consul";
const WEB: &str = "spiffe://1111-2222.consul/ns/default/dc/dc1/svc/web";

/// What Consul says at the moment, and how often it was asked.
#[derive(Clone)]
struct Scripted(Arc<Script>);
struct Script {
    answer: Mutex<Result<ConnectTrust, String>>,
    asked: AtomicUsize,
}

impl Scripted {
    fn of(authority: &TestAuthority) -> Self {
        let answer = Mutex::new(Ok(trust(authority)));
        Self(Arc::new(Script { answer, asked: AtomicUsize::new(0) }))
    }
    fn say(&self, answer: Result<ConnectTrust, &str>) {
        *self.0.answer.lock().unwrap() = answer.map_err(str::to_owned);
    }
    fn asked(&self) -> usize {
        self.0.asked.load(Ordering::Relaxed)
    }
}

impl ConnectRoots for Scripted {
    fn connect_trust(&self) -> BoxFuture<'_, Result<ConnectTrust, ConnectRootsError>> {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        let answer = self.0.answer.lock().unwrap().clone().map_err(ConnectRootsError);
        Box::pin(std::future::ready(answer))
    }
}

fn trust(authority: &TestAuthority) -> ConnectTrust {
    let TrustBundle { trust_domain, roots } = authority.bundle();
    ConnectTrust { trust_domain, roots }
}

fn attestor(roots: impl ConnectRoots, identities: BTreeMap<ServiceKey, SpiffeId>) -> ConsulAttestor {
    let datacenter = ConsulDatacenter { datacenter: "dc1".to_owned(), roots: Box::new(roots), identities };
    let id = "consul/dc1".parse().unwrap();
    ConsulAttestor::new("weft.test".parse().unwrap(), BTreeMap::from([(id, datacenter)]))
}

/// An honest caller's proof, for tests to spoil.
struct Proof {
    registry: &'static str,
    chain: Vec<CertificateDer<'static>>,
    nonce: Vec<u8>,
    signature: Vec<u8>,
    csr: Vec<u8>,
}

impl Proof {
    fn new(attestor: &ConsulAttestor, chain: Vec<CertificateDer<'static>>, key: &PrivateKeyDer<'_>) -> Self {
        let nonce = attestor.challenge(Instant::now()).to_vec();
        let csr = new_key_and_csr(None).unwrap().1;
        let signature = sign_consul_attestation(key, &nonce, &csr).unwrap();
        Self { registry: "consul/dc1", chain, nonce, signature, csr }
    }
    fn of(attestor: &ConsulAttestor, authority: &TestAuthority, id: &str) -> Self {
        let (chain, key) = authority.sign(leaf_params(id));
        Self::new(attestor, chain, &key)
    }
    async fn attest(&self, attestor: &ConsulAttestor) -> Result<SpiffeId, ConsulRefusal> {
        attestor.attest(self.registry, &self.chain, &self.nonce, &self.signature, &self.csr).await
    }
}

fn consul() -> (TestAuthority, Scripted, ConsulAttestor) {
    let authority = TestAuthority::new(DOMAIN);
    let scripted = Scripted::of(&authority);
    let attestor = attestor(scripted.clone(), BTreeMap::new());
    (authority, scripted, attestor)
}

#[tokio::test]
async fn the_holder_of_a_services_leaf_is_that_service() {
    let (authority, _, attestor) = consul();
    let attested = Proof::of(&attestor, &authority, WEB).attest(&attestor).await;
    assert_eq!(attested.unwrap().as_str(), "spiffe://weft.test/ns/default/sa/web");
}

#[tokio::test]
async fn a_service_may_be_mapped_to_another_identity() {
    let authority = TestAuthority::new(DOMAIN);
    let frontend: SpiffeId = "spiffe://weft.test/ns/shop/sa/frontend".parse().unwrap();
    let mapped = BTreeMap::from([("web".parse().unwrap(), frontend.clone())]);
    let attestor = attestor(Scripted::of(&authority), mapped);
    assert_eq!(Proof::of(&attestor, &authority, WEB).attest(&attestor).await.unwrap(), frontend);
}

#[tokio::test]
async fn a_proof_is_good_once_and_nonces_are_ours() {
    let (authority, _, attestor) = consul();
    let proof = Proof::of(&attestor, &authority, WEB);
    proof.attest(&attestor).await.unwrap();
    assert!(matches!(proof.attest(&attestor).await, Err(ConsulRefusal::Nonce)));
    let invented = Proof { nonce: vec![7; 32], ..Proof::of(&attestor, &authority, WEB) };
    assert!(matches!(invented.attest(&attestor).await, Err(ConsulRefusal::Nonce)));
}

#[tokio::test]
async fn a_signature_over_another_request_nonce_or_by_another_key_is_refused() {
    let (authority, _, attestor) = consul();
    let other_csr = Proof { csr: new_key_and_csr(None).unwrap().1, ..Proof::of(&attestor, &authority, WEB) };
    let fresh = attestor.challenge(Instant::now()).to_vec();
    let other_nonce = Proof { nonce: fresh, ..Proof::of(&attestor, &authority, WEB) };
    // A leaf is no secret: whoever saw the chain has it, but not its key.
    let (chain, _) = authority.sign(leaf_params(WEB));
    let stolen_chain = Proof { chain, ..Proof::of(&attestor, &authority, WEB) };
    let garbage = Proof { signature: vec![0; 70], ..Proof::of(&attestor, &authority, WEB) };
    for forged in [other_csr, other_nonce, stolen_chain, garbage] {
        let refused = forged.attest(&attestor).await;
        assert!(matches!(refused, Err(ConsulRefusal::Signature)), "{refused:?}");
    }
}

#[tokio::test]
async fn a_leaf_of_another_connect_ca_is_refused() {
    let (_, _, attestor) = consul();
    let forger = TestAuthority::new(DOMAIN);
    let refused = Proof::of(&attestor, &forger, WEB).attest(&attestor).await;
    assert!(matches!(refused, Err(ConsulRefusal::Leaf(VerifyError::UnknownIssuer { .. }))), "{refused:?}");
    let foreign = TestAuthority::new("3333.consul");
    let foreign_web = "spiffe://3333.consul/ns/default/dc/dc1/svc/web";
    let refused = Proof::of(&attestor, &foreign, foreign_web).attest(&attestor).await;
    assert!(
        matches!(refused, Err(ConsulRefusal::Leaf(VerifyError::ForeignTrustDomain { .. }))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn leaves_of_other_datacenters_and_of_no_service_are_refused() {
    let (authority, _, attestor) = consul();
    let dc2 = Proof::of(&attestor, &authority, "spiffe://1111-2222.consul/ns/default/dc/dc2/svc/web");
    assert!(matches!(dc2.attest(&attestor).await, Err(ConsulRefusal::OtherDatacenter { .. })));
    let agent = Proof::of(&attestor, &authority, "spiffe://1111-2222.consul/agent/client/dc/dc1/id/n");
    assert!(matches!(agent.attest(&attestor).await, Err(ConsulRefusal::NotAService(_))));
}

#[tokio::test]
async fn unknown_registries_long_chains_and_other_kinds_of_keys_are_refused() {
    let (authority, _, attestor) = consul();
    for registry in ["consul/dc2", "file/local", "garbage", ""] {
        let proof = Proof { registry, ..Proof::of(&attestor, &authority, WEB) };
        assert!(matches!(proof.attest(&attestor).await, Err(ConsulRefusal::UnknownRegistry(_))));
    }
    let mut long = Proof::of(&attestor, &authority, WEB);
    long.chain.extend(vec![long.chain[0].clone(); LONGEST_CHAIN]);
    assert!(matches!(long.attest(&attestor).await, Err(ConsulRefusal::ChainLength(9))));
    let none = Proof { chain: vec![], ..Proof::of(&attestor, &authority, WEB) };
    assert!(matches!(none.attest(&attestor).await, Err(ConsulRefusal::Leaf(VerifyError::Svid(_)))));
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    assert!(matches!(check_signature(&self_signed(&key), b"n", b"s", b"c"), Err(ConsulRefusal::KeyKind)));
}

fn self_signed(key: &KeyPair) -> Vec<CertificateDer<'static>> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "p384");
    vec![params.self_signed(key).unwrap().into()]
}

#[tokio::test(start_paused = true)]
async fn a_rotated_root_is_read_at_once_and_a_liar_does_not_make_us_ask_again() {
    let (authority, scripted, attestor) = consul();
    Proof::of(&attestor, &authority, WEB).attest(&attestor).await.unwrap();
    Proof::of(&attestor, &authority, WEB).attest(&attestor).await.unwrap();
    assert_eq!(scripted.asked(), 1);
    let rotated = TestAuthority::new(DOMAIN);
    scripted.say(Ok(trust(&rotated)));
    tokio::time::advance(JUST_READ).await;
    Proof::of(&attestor, &rotated, WEB).attest(&attestor).await.unwrap();
    assert_eq!(scripted.asked(), 2);
    for _ in 0..5 {
        Proof::of(&attestor, &authority, WEB).attest(&attestor).await.expect_err("the old root is gone");
    }
    assert_eq!(scripted.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_consul_that_is_down_stops_nobody_for_an_hour() {
    let (authority, scripted, attestor) = consul();
    Proof::of(&attestor, &authority, WEB).attest(&attestor).await.unwrap();
    scripted.say(Err("connection refused"));
    tokio::time::advance(LAST_KNOWN_GOOD - Duration::from_secs(1)).await;
    Proof::of(&attestor, &authority, WEB).attest(&attestor).await.unwrap();
    tokio::time::advance(Duration::from_secs(2)).await;
    let refused = Proof::of(&attestor, &authority, WEB).attest(&attestor).await;
    assert!(matches!(refused, Err(ConsulRefusal::Roots(_))), "{refused:?}");
}

/// A proof made with the leaf that a real agent gives for `service`.
async fn real_proof(attestor: &ConsulAttestor, server: &ConsulServer, service: &str) -> Proof {
    let path = format!("agent/connect/ca/leaf/{service}");
    let leaf = server.get(&path).await.unwrap();
    let text = |field: &str| leaf[field].as_str().unwrap().to_owned();
    let chain = certificates_from_pem(&text("CertPEM")).unwrap();
    Proof::new(attestor, chain, &key_from_pem(&text("PrivateKeyPEM")).unwrap())
}

async fn attests_on(version: ConsulVersion) {
    weft_identity::install_crypto_provider();
    let Some(server) = ConsulServer::start(version, ConsulOptions::default()).await.unwrap() else { return };
    let settings = ConsulSettings { address: server.address(), ..ConsulSettings::default() };
    let attestor = attestor(ConsulClient::new(&settings).unwrap(), BTreeMap::new());
    let web = json!({ "Name": "web", "Port": 8080 });
    server.put("agent/service/register", &web).await.unwrap();

    let proof = real_proof(&attestor, &server, "web").await;
    assert_eq!(proof.attest(&attestor).await.unwrap().as_str(), "spiffe://weft.test/ns/default/sa/web");
    assert!(matches!(proof.attest(&attestor).await, Err(ConsulRefusal::Nonce)));

    let web_proof = real_proof(&attestor, &server, "web").await;
    let api_proof = real_proof(&attestor, &server, "api").await;
    let api_with_webs_key = Proof { chain: api_proof.chain, ..web_proof };
    assert!(matches!(api_with_webs_key.attest(&attestor).await, Err(ConsulRefusal::Signature)));
}

#[tokio::test]
async fn consul_1_20_5_attests_its_services() {
    attests_on(ConsulVersion::V1_20_5).await;
}

#[tokio::test]
async fn consul_1_8_7_attests_its_services() {
    attests_on(ConsulVersion::V1_8_7).await;
}
