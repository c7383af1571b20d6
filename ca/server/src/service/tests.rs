//! The service over real TLS connections, with the proxy's own way to connect.

use std::collections::BTreeMap;
use std::time::Duration;

use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::Channel;
use weft_identity::testkit::{TestAuthority, leaf_params};
use weft_identity::{
    CONTROL_PLANE_PATH, Credentials, RootPin, Svid, SvidSource, TrustBundles, new_key_and_csr,
    pinned_client_config, sign_consul_attestation,
};
use weft_proto::ca::v1::certificate_authority_client::CertificateAuthorityClient;

use super::*;
use crate::limits::RateLimit;
use crate::{
    AuthoritySettings, ConnectRoots, ConnectRootsError, ConnectTrust, ConsulDatacenter, KubernetesCluster,
    LivePod, ReviewedToken, TokenReview, TokenReviewError, TokenReviewer, transport,
};

const CONSUL_WEB: &str = "spiffe://1111.consul/ns/default/dc/dc1/svc/web";

struct Ca {
    authority: Arc<Authority>,
    tokens: Arc<JoinTokens>,
    connect_ca: TestAuthority,
    api_server: ApiServer,
    address: String,
    // In the order of their end: the server, then its directory.
    _tasks: JoinSet<()>,
    _directory: tempfile::TempDir,
}

struct Fixed(ConnectTrust);

impl ConnectRoots for Fixed {
    fn connect_trust(&self) -> futures::future::BoxFuture<'_, Result<ConnectTrust, ConnectRootsError>> {
        Box::pin(std::future::ready(Ok(self.0.clone())))
    }
}

/// An API server that vouches for the token `a.b.c` alone, until it is down.
#[derive(Clone, Default)]
struct ApiServer {
    down: Arc<std::sync::atomic::AtomicBool>,
}

impl TokenReviewer for ApiServer {
    fn review<'a>(
        &'a self,
        token: &'a str,
        audience: &'a str,
    ) -> futures::future::BoxFuture<'a, Result<TokenReview, TokenReviewError>> {
        let reviewed = || ReviewedToken {
            username: "system:serviceaccount:shop:web".to_owned(),
            audiences: vec![audience.to_owned()],
            pod: Some(("web-1".to_owned(), "1".to_owned())),
            node: None,
            credential: None,
        };
        let review = match token {
            "a.b.c" => TokenReview::Accepted(reviewed()),
            _ => TokenReview::Rejected("invalid bearer token".to_owned()),
        };
        let down = self.down.load(std::sync::atomic::Ordering::Relaxed);
        let answer = if down { Err(TokenReviewError("it is down".to_owned())) } else { Ok(review) };
        Box::pin(std::future::ready(answer))
    }

    fn pod<'a>(
        &'a self,
        _: &'a weft_model::Namespace,
        _: &'a str,
    ) -> futures::future::BoxFuture<'a, Result<Option<LivePod>, TokenReviewError>> {
        let (uid, service_account) = ("1".to_owned(), "web".to_owned());
        let pod = LivePod { uid, node: None, service_account, ending: false };
        Box::pin(std::future::ready(Ok(Some(pod))))
    }
}

fn id(path: &str) -> SpiffeId {
    format!("spiffe://weft.test{path}").parse().unwrap()
}

async fn ca_with(limits: LimitSettings) -> Ca {
    let directory = tempfile::tempdir().unwrap();
    let settings = AuthoritySettings::new("weft.test".parse().unwrap(), directory.path().join("ca"));
    let authority = Arc::new(Authority::open(&settings, SystemTime::now()).unwrap());
    let tokens = Arc::new(JoinTokens::open(&settings.state_dir, authority.root_pin().unwrap()).unwrap());
    let connect_ca = TestAuthority::new("1111.consul");
    let weft_identity::TrustBundle { trust_domain, roots } = connect_ca.bundle();
    let datacenter = ConsulDatacenter {
        datacenter: "dc1".to_owned(),
        roots: Box::new(Fixed(ConnectTrust { trust_domain, roots })),
        identities: BTreeMap::new(),
    };
    let datacenters = BTreeMap::from([("consul/dc1".parse().unwrap(), datacenter)]);
    let consul = Some(Arc::new(ConsulAttestor::new("weft.test".parse().unwrap(), datacenters)));
    let api_server = ApiServer::default();
    let cluster = KubernetesCluster { audience: "weft".to_owned(), reviewer: Box::new(api_server.clone()) };
    let clusters = BTreeMap::from([("kubernetes/prod".parse().unwrap(), cluster)]);
    let kubernetes = Some(Arc::new(KubernetesAttestor::new("weft.test".parse().unwrap(), clusters)));

    let source = SvidSource::new();
    let own = authority.issue_own(CONTROL_PLANE_PATH, SystemTime::now()).unwrap();
    source.set(own, TrustBundles::from_iter([authority.bundle().clone()]));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (signs, joins) = (Arc::clone(&authority), Arc::clone(&tokens));
    let shared_tokens = None;
    let parts = CaServiceParts {
        authority: signs,
        tokens: joins,
        shared_tokens,
        consul,
        kubernetes,
        nomad: None,
        limits,
    };
    let server = tonic::transport::Server::builder().add_service(CaService::new(parts).into_server());
    let connections = transport::Connections::new(transport::ConnectionLimits::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        server.serve_with_incoming(transport::incoming(listener, source, connections)).await.unwrap();
    });
    Ca { authority, tokens, connect_ca, api_server, address, _tasks: tasks, _directory: directory }
}

async fn ca() -> Ca {
    ca_with(LimitSettings::default()).await
}

type Client = CertificateAuthorityClient<Channel>;

impl Ca {
    /// As a proxy that has nothing but the pin.
    async fn stranger(&self) -> Client {
        let pins = [self.authority.root_pin().unwrap()];
        let tls = pinned_client_config(&pins, CONTROL_PLANE_PATH, &[b"h2"]).unwrap();
        CertificateAuthorityClient::new(weft_xds_client::connect(&self.address, tls).await.unwrap())
    }
    /// As a proxy that has an SVID.
    async fn member(&self, svid: Svid) -> Client {
        let bundles = TrustBundles::from_iter([self.authority.bundle().clone()]);
        let credentials = Credentials::new(Arc::new(svid), Arc::new(bundles), 1);
        let tls = credentials.client_config(&id(CONTROL_PLANE_PATH), &[b"h2"]).unwrap();
        CertificateAuthorityClient::new(weft_xds_client::connect(&self.address, tls).await.unwrap())
    }
    fn token(&self, path: &str) -> String {
        self.tokens.create(&id(path), Duration::from_secs(60), SystemTime::now()).unwrap().to_string()
    }
}

async fn ask(
    client: &mut Client,
    csr: Vec<u8>,
    attestation: Option<Attestation>,
) -> Result<wire::IssueResponse, Status> {
    Ok(client.issue(wire::IssueRequest { csr: csr.into(), attestation }).await?.into_inner())
}

fn by_token(token: String) -> Option<Attestation> {
    Some(Attestation::JoinToken(wire::JoinToken { token }))
}

fn renewal() -> Option<Attestation> {
    Some(Attestation::Renewal(wire::Renewal {}))
}

fn csr() -> Vec<u8> {
    new_key_and_csr(None).unwrap().1
}

fn svid_of(response: wire::IssueResponse, key: PrivatePkcs8KeyDer<'static>) -> Svid {
    let chain = response.chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    Svid::from_der(chain, PrivateKeyDer::Pkcs8(key)).unwrap()
}

/// The whole of a refusal that a caller may see.
fn assert_refused(answer: Result<wire::IssueResponse, Status>, code: Code, message: &str) {
    let status = answer.expect_err("issued");
    assert_eq!((status.code(), status.message()), (code, message));
}

fn assert_not_attested(answer: Result<wire::IssueResponse, Status>) {
    assert_refused(answer, Code::PermissionDenied, "not attested");
}

#[tokio::test]
async fn a_proxy_joins_with_a_token_and_renews_with_its_certificate() {
    let ca = ca().await;
    let (key, csr) = new_key_and_csr(None).unwrap();
    let joined = ask(&mut ca.stranger().await, csr, by_token(ca.token("/ns/shop/sa/web"))).await.unwrap();
    let bundle = &joined.bundles[0];
    assert_eq!(bundle.trust_domain, "weft.test");
    let root = CertificateDer::from(bundle.roots[0].to_vec());
    assert_eq!(RootPin::of(&root), ca.authority.root_pin().unwrap());
    let svid = svid_of(joined, key);
    assert_eq!(svid.id(), &id("/ns/shop/sa/web"));

    let (key, csr) = new_key_and_csr(Some(svid.id())).unwrap();
    let first_chain = svid.chain().to_vec();
    let renewed = ask(&mut ca.member(svid).await, csr, renewal()).await.unwrap();
    let renewed = svid_of(renewed, key);
    assert_eq!(renewed.id(), &id("/ns/shop/sa/web"));
    assert_ne!(renewed.chain()[0], first_chain[0]);
}

#[tokio::test]
async fn a_token_is_good_once_and_wrong_ones_look_all_alike() {
    let ca = ca().await;
    let (mut client, token) = (ca.stranger().await, ca.token("/ns/shop/sa/web"));
    ask(&mut client, csr(), by_token(token.clone())).await.unwrap();
    assert_not_attested(ask(&mut client, csr(), by_token(token)).await);
    let invented = weft_identity::JoinToken::random(ca.authority.root_pin().unwrap()).to_string();
    for bad in [invented, "garbage".to_owned(), String::new()] {
        assert_not_attested(ask(&mut client, csr(), by_token(bad)).await);
    }
}

#[tokio::test]
async fn a_request_that_would_be_refused_does_not_cost_the_token() {
    let ca = ca().await;
    let (mut client, token) = (ca.stranger().await, ca.token("/ns/shop/sa/web"));
    let as_admin = new_key_and_csr(Some(&id("/ns/shop/sa/admin"))).unwrap().1;
    assert_not_attested(ask(&mut client, as_admin, by_token(token.clone())).await);
    let bad = ask(&mut client, b"garbage".to_vec(), by_token(token.clone())).await;
    assert_refused(bad, Code::InvalidArgument, "the certificate signing request can't be used");
    ask(&mut client, csr(), by_token(token)).await.unwrap();
}

#[tokio::test]
async fn a_renewal_is_for_the_connections_own_identity_only() {
    let ca = ca().await;
    assert_not_attested(ask(&mut ca.stranger().await, csr(), renewal()).await);
    let (key, request) = new_key_and_csr(None).unwrap();
    let joined = ask(&mut ca.stranger().await, request, by_token(ca.token("/ns/shop/sa/web"))).await.unwrap();
    let mut web = ca.member(svid_of(joined, key)).await;
    let as_admin = new_key_and_csr(Some(&id("/ns/shop/sa/admin"))).unwrap().1;
    assert_not_attested(ask(&mut web, as_admin, renewal()).await);
}

#[tokio::test]
async fn the_control_planes_own_identity_is_never_issued() {
    let ca = ca().await;
    let own = ca.authority.issue_own(CONTROL_PLANE_PATH, SystemTime::now()).unwrap();
    assert_not_attested(ask(&mut ca.member(own).await, csr(), renewal()).await);
}

#[test]
fn a_renewal_over_a_connection_that_outlived_its_certificate_is_refused() {
    let now = SystemTime::now();
    let remote = ([127, 0, 0, 1], 1).into();
    let connection = transport::Handle::new(false);
    let peer = |not_after| PeerIdentity {
        id: Some(id("/a")),
        not_after: Some(not_after),
        remote,
        connection: connection.clone(),
    };
    assert_eq!(by_certificate(&peer(now + Duration::from_secs(1)), now).unwrap(), id("/a"));
    let over = by_certificate(&peer(now - Duration::from_secs(1)), now);
    assert!(matches!(over, Err(Refusal::CertificateOver(_))));
}

#[tokio::test]
async fn a_consul_service_proves_itself_with_its_leaf() {
    let ca = ca().await;
    let mut client = ca.stranger().await;
    let nonce = client.challenge(wire::ChallengeRequest {}).await.unwrap().into_inner().nonce;
    let (chain, leaf_key) = ca.connect_ca.sign(leaf_params(CONSUL_WEB));
    let (key, csr) = new_key_and_csr(None).unwrap();
    let proof = wire::ConsulLeaf {
        registry: "consul/dc1".to_owned(),
        chain: chain.iter().map(|der| Bytes::copy_from_slice(der)).collect(),
        signature: sign_consul_attestation(&leaf_key, &nonce, &csr).unwrap().into(),
        nonce,
    };
    let attestation = Some(Attestation::ConsulLeaf(proof));
    let issued = ask(&mut client, csr.clone(), attestation.clone()).await.unwrap();
    assert_eq!(svid_of(issued, key).id(), &id("/ns/default/sa/web"));
    assert_not_attested(ask(&mut client, csr, attestation).await);
}

fn by_pod(token: &str) -> Option<Attestation> {
    let (registry, token) = ("kubernetes/prod".to_owned(), token.to_owned());
    Some(Attestation::KubernetesToken(wire::KubernetesToken { registry, token }))
}

#[tokio::test]
async fn a_pod_proves_itself_with_its_token_as_often_as_it_likes() {
    let ca = ca().await;
    let mut client = ca.stranger().await;
    for _ in 0..2 {
        let (key, csr) = new_key_and_csr(None).unwrap();
        let issued = ask(&mut client, csr, by_pod("a.b.c")).await.unwrap();
        assert_eq!(svid_of(issued, key).id(), &id("/ns/shop/sa/web"));
    }
    let as_admin = new_key_and_csr(Some(&id("/ns/shop/sa/admin"))).unwrap().1;
    assert_not_attested(ask(&mut client, as_admin, by_pod("a.b.c")).await);
    assert_not_attested(ask(&mut client, csr(), by_pod("x.y.z")).await);
}

#[tokio::test]
async fn an_api_server_that_is_down_refuses_no_pod() {
    let ca = ca().await;
    ca.api_server.down.store(true, std::sync::atomic::Ordering::Relaxed);
    let answer = ask(&mut ca.stranger().await, csr(), by_pod("a.b.c")).await;
    assert_refused(answer, Code::Unavailable, "try again later");
    ca.api_server.down.store(false, std::sync::atomic::Ordering::Relaxed);
    ask(&mut ca.stranger().await, csr(), by_pod("a.b.c")).await.unwrap();
}

#[tokio::test]
async fn pods_are_limited_by_identity_and_address_as_others_are() {
    let per_identity = RateLimit { per_second: 0.001, burst: 1 };
    let ca = ca_with(LimitSettings { per_identity, ..LimitSettings::default() }).await;
    let mut client = ca.stranger().await;
    ask(&mut client, csr(), by_pod("a.b.c")).await.unwrap();
    let second = ask(&mut client, csr(), by_pod("a.b.c")).await;
    assert_refused(second, Code::ResourceExhausted, "too many requests");
}

#[tokio::test]
async fn a_request_without_attestation_says_what_is_missing() {
    let ca = ca().await;
    let answer = ask(&mut ca.stranger().await, csr(), None).await;
    assert_refused(answer, Code::InvalidArgument, "an attestation is needed");
}

#[tokio::test]
async fn attempts_are_limited_by_address() {
    let per_address = RateLimit { per_second: 0.001, burst: 3 };
    let ca = ca_with(LimitSettings { per_address, ..LimitSettings::default() }).await;
    let mut client = ca.stranger().await;
    for _ in 0..3 {
        assert_not_attested(ask(&mut client, csr(), by_token("garbage".to_owned())).await);
    }
    let token = by_token(ca.token("/ns/shop/sa/web"));
    assert_refused(ask(&mut client, csr(), token).await, Code::ResourceExhausted, "too many requests");
}

#[tokio::test]
async fn certificates_are_limited_by_identity_and_others_are_not_hindered() {
    let per_identity = RateLimit { per_second: 0.001, burst: 1 };
    let ca = ca_with(LimitSettings { per_identity, ..LimitSettings::default() }).await;
    let mut client = ca.stranger().await;
    ask(&mut client, csr(), by_token(ca.token("/ns/shop/sa/web"))).await.unwrap();
    let second = ask(&mut client, csr(), by_token(ca.token("/ns/shop/sa/web"))).await;
    assert_refused(second, Code::ResourceExhausted, "too many requests");
    ask(&mut client, csr(), by_token(ca.token("/ns/shop/sa/api"))).await.unwrap();
}

#[tokio::test]
async fn a_disk_that_fails_is_not_the_callers_fault_and_costs_no_token() {
    let ca = ca().await;
    let (mut client, token) = (ca.stranger().await, ca.token("/ns/shop/sa/web"));
    let used = ca._directory.path().join("ca/tokens/used");
    std::fs::remove_dir(&used).unwrap();
    std::fs::write(&used, "a file where the directory was").unwrap();
    let answer = ask(&mut client, csr(), by_token(token.clone())).await;
    assert_refused(answer, Code::Unavailable, "try again later");
    std::fs::remove_file(&used).unwrap();
    std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&used).unwrap();
    ask(&mut client, csr(), by_token(token)).await.unwrap();
}
