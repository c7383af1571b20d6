//! Every rule, against a region that says what a test wants and tokens that a test signs. Real ones:
//! `integration/tests/nomad_identity.rs`.

mod allocations;
mod published;
mod tokens;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use weft_registry_nomad::IdentityRule;
use weft_registry_nomad::attest::{Job, Node, SigningKey, Task, TaskGroup, TaskState};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::RSAPublicKey;

use super::*;

/// When the tests are.
const NOW: u64 = 1_800_000_000;
const ALLOCATION: &str = "94ce5411-bad6-e7af-c62e-c8d339f89ee6";
const NODE: &str = "ebd289eb-06c2-dd80-8c1c-906ce1455b14";
const WEB: &str = "spiffe://weft.test/ns/shop/sa/web";

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

/// A key of a region.
enum Signer {
    Rsa(RsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// The region's own, and one of another cluster. Making them takes a while.
static RSA: LazyLock<Signer> = LazyLock::new(|| Signer::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()));
static OTHERS: LazyLock<Signer> =
    LazyLock::new(|| Signer::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()));
static ED25519: LazyLock<Signer> = LazyLock::new(|| Signer::Ed25519(Ed25519KeyPair::generate().unwrap()));

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    fn published(&self, kid: &str) -> SigningKey {
        let base = SigningKey { kid: kid.to_owned(), usage: "sig".to_owned(), ..SigningKey::default() };
        match self {
            Self::Rsa(key) => {
                let (_, key) = RSAPublicKey::from_der(key.public_key().as_ref()).unwrap();
                let n = key.modulus.strip_prefix(&[0]).unwrap_or(key.modulus);
                let (n, e) = (encoded(n), encoded(key.exponent));
                SigningKey { kty: "RSA".to_owned(), alg: "RS256".to_owned(), n, e, ..base }
            }
            Self::Ed25519(key) => {
                let (kty, alg) = ("OKP".to_owned(), "EdDSA".to_owned());
                let (crv, x) = ("Ed25519".to_owned(), encoded(key.public_key()));
                SigningKey { kty, alg, crv, x, ..base }
            }
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
                signature
            }
            Self::Ed25519(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    /// A token with this header and payload, as they are.
    fn token(&self, header: &Value, payload: &str) -> String {
        let signed = format!("{}.{}", encoded(header.to_string()), encoded(payload));
        let signature = encoded(self.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

fn header() -> Value {
    json!({"alg": "RS256", "kid": "one", "typ": "JWT"})
}

/// What Nomad claims for an honest sidecar, for tests to spoil.
fn claims() -> Value {
    json!({
        "aud": "weft", "exp": NOW + 1800, "iat": NOW - 1800, "nbf": NOW - 1800, "jti": "5237290b",
        "nomad_allocation_id": ALLOCATION, "nomad_job_id": "web", "nomad_namespace": "shop", "nomad_task": "weft-proxy",
        "sub": "eu:shop:web:g:weft-proxy:weft",
    })
}

/// A token of the region's, with some claims spoilt.
fn token(change: impl FnOnce(&mut Value)) -> String {
    let mut claims = claims();
    change(&mut claims);
    RSA.token(&header(), &claims.to_string())
}

fn job() -> Job {
    let group = TaskGroup {
        name: "g".to_owned(),
        meta: BTreeMap::new(),
        tasks: vec![Task { name: "app".to_owned() }, Task { name: "weft-proxy".to_owned() }],
    };
    Job {
        id: "web".to_owned(),
        parent_id: String::new(),
        dispatched: false,
        region: "eu".to_owned(),
        namespace: "shop".to_owned(),
        meta: BTreeMap::new(),
        task_groups: vec![group],
        periodic: false,
        parameterized: false,
    }
}

/// What Nomad says of the honest sidecar's allocation.
fn allocation() -> Allocation {
    let running = TaskState { state: "running".to_owned() };
    Allocation {
        id: ALLOCATION.to_owned(),
        namespace: "shop".to_owned(),
        job_id: "web".to_owned(),
        task_group: "g".to_owned(),
        node_id: NODE.to_owned(),
        desired_status: "run".to_owned(),
        client_status: "running".to_owned(),
        task_states: BTreeMap::from([("weft-proxy".to_owned(), running)]),
        job: job(),
        index: 17,
    }
}

type Answer<T> = Mutex<Result<T, String>>;

/// What Nomad says at the moment, and how often it was asked for keys and allocations.
#[derive(Clone)]
struct Scripted(Arc<Script>);
struct Script {
    keys: Answer<Vec<SigningKey>>,
    /// One answer after the other; the last for ever.
    allocations: Answer<Vec<Option<Allocation>>>,
    node: Answer<Option<Node>>,
    job: Answer<Option<Job>>,
    asked_for_keys: AtomicUsize,
    /// After which index.
    asked: Mutex<Vec<Option<u64>>>,
    hangs: bool,
}

fn ready<T: Clone + Send + 'static>(answer: &Answer<T>) -> BoxFuture<'static, Result<T, NomadUnavailable>> {
    Box::pin(std::future::ready(answer.lock().unwrap().clone().map_err(NomadUnavailable)))
}

impl AllocationWitness for Scripted {
    fn signing_keys(&self) -> BoxFuture<'_, Result<Vec<SigningKey>, NomadUnavailable>> {
        self.0.asked_for_keys.fetch_add(1, Ordering::Relaxed);
        ready(&self.0.keys)
    }

    fn allocation<'a>(
        &'a self,
        id: &'a str,
        newer_than: Option<u64>,
    ) -> BoxFuture<'a, Result<Option<Allocation>, NomadUnavailable>> {
        assert_eq!(id, ALLOCATION);
        self.0.asked.lock().unwrap().push(newer_than);
        if self.0.hangs {
            return Box::pin(std::future::pending());
        }
        let mut script = self.0.allocations.lock().unwrap();
        let answer = script.as_mut().map(|answers| match answers.len() {
            1 => answers[0].clone(),
            _ => answers.remove(0),
        });
        Box::pin(std::future::ready(answer.map_err(|error| NomadUnavailable(error.clone()))))
    }

    fn node<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Node>, NomadUnavailable>> {
        assert_eq!(id, NODE);
        ready(&self.0.node)
    }

    fn job<'a>(
        &'a self,
        namespace: &'a str,
        id: &'a str,
    ) -> BoxFuture<'a, Result<Option<Job>, NomadUnavailable>> {
        assert_eq!((namespace, id), ("shop", "web"));
        ready(&self.0.job)
    }
}

/// A region of an honest sidecar, and the attestor that asks it.
fn region_with(hangs: bool, change: impl FnOnce(&mut NomadRegion)) -> (Scripted, NomadAttestor) {
    let node = Node { id: NODE.to_owned(), status: "ready".to_owned() };
    let scripted = Scripted(Arc::new(Script {
        keys: Mutex::new(Ok(vec![RSA.published("one"), ED25519.published("two")])),
        allocations: Mutex::new(Ok(vec![Some(allocation())])),
        node: Mutex::new(Ok(Some(node))),
        job: Mutex::new(Ok(Some(job()))),
        asked_for_keys: AtomicUsize::new(0),
        asked: Mutex::default(),
        hangs,
    }));
    let mut region = NomadRegion {
        rules: NomadTokenRules::default(),
        region: Some("eu".to_owned()),
        identities: IdentityRules::default(),
        witness: Box::new(scripted.clone()),
    };
    change(&mut region);
    let regions = BTreeMap::from([("nomad/prod".parse().unwrap(), region)]);
    (scripted, NomadAttestor::new("weft.test".parse().unwrap(), regions))
}

fn region() -> (Scripted, NomadAttestor) {
    region_with(false, |_| {})
}

impl NomadAttestor {
    async fn ask(&self, token: &str) -> Result<SpiffeId, NomadRefusal> {
        self.attest("nomad/prod", token, NODE, now()).await
    }
}

/// What becomes of a caller with this token.
async fn attest(token: &str) -> Result<SpiffeId, NomadRefusal> {
    region().1.ask(token).await
}

/// The reason that is counted, and that the log line has these words and no part of the token.
#[track_caller]
fn assert_refused(answer: Result<SpiffeId, NomadRefusal>, reason: &str, words: &str) {
    let refusal = answer.expect_err(words);
    let text = refusal.to_string();
    assert_eq!(refusal.reason(), reason, "{text}");
    assert!(text.contains(words), "{words:?} is not in {text}");
    assert!(!text.contains("eyJ"), "a token is in {text}");
}
