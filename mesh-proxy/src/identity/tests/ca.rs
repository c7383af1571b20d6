//! A CA and a Consul agent for tests: real TLS and gRPC on loopback, with answers that a test chooses.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tonic::codegen::Service;
use tonic::{Request, Response, Status};
use weft_identity::testkit::{TestAuthority, leaf_params};
use weft_identity::{CONTROL_PLANE_PATH, ClientAuth, Credentials, JoinToken, RootPin, Svid};
use weft_model::SpiffeId;
use weft_proto::ca::v1::certificate_authority_server::{CertificateAuthority, CertificateAuthorityServer};
use weft_proto::ca::v1::issue_request::Attestation;
use weft_proto::ca::v1::{ChallengeRequest, ChallengeResponse, IssueRequest, IssueResponse};
use weft_proto::mesh::v1::TrustBundle;

const WEB: &str = "spiffe://weft.test/ns/shop/sa/web";
const NONCE: &[u8] = b"a nonce";
pub(super) const NODE: &str = "ebd289eb-06c2-dd80-8c1c-906ce1455b14";

/// A CA that runs until it is dropped.
pub(super) struct Ca {
    pub(super) address: SocketAddr,
    script: Arc<Script>,
    _tasks: JoinSet<()>,
}

/// What the CA does, and what it was asked.
struct Script {
    authority: TestAuthority,
    life: Duration,
    /// Connections are closed before a word is said.
    away: AtomicBool,
    /// Renewals, and tokens too, are refused.
    refusing: AtomicBool,
    /// The kind of each attestation.
    asked: Mutex<Vec<&'static str>>,
    /// The pods' tokens that came.
    pod_tokens: Mutex<Vec<String>>,
}

impl Ca {
    /// Leaves live for so long.
    pub(super) async fn start(life: Duration) -> Self {
        let script = Arc::new(Script {
            authority: TestAuthority::new("weft.test"),
            life,
            away: AtomicBool::new(false),
            refusing: AtomicBool::new(false),
            asked: Mutex::default(),
            pod_tokens: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, script.clone()));
        Self { address, script, _tasks: tasks }
    }

    pub(super) fn pin(&self) -> RootPin {
        RootPin::of(&self.script.authority.bundle().roots[0])
    }

    pub(super) fn token(&self) -> JoinToken {
        JoinToken::random(self.pin())
    }

    pub(super) fn go_away(&self, away: bool) {
        self.script.away.store(away, Ordering::SeqCst);
    }

    pub(super) fn refuse(&self) {
        self.script.refusing.store(true, Ordering::SeqCst);
    }

    pub(super) fn pod_tokens(&self) -> Vec<String> {
        self.script.pod_tokens.lock().unwrap().clone()
    }

    pub(super) fn asked(&self) -> Vec<&'static str> {
        self.script.asked.lock().unwrap().clone()
    }
}

async fn accept(listener: TcpListener, script: Arc<Script>) {
    let acceptor = TlsAcceptor::from(server_config(&script.authority));
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        if script.away.load(Ordering::SeqCst) {
            continue;
        }
        connections.spawn(serve(stream, acceptor.clone(), script.clone()));
    }
}

/// The control plane shows its root with its chain, so that pins work.
fn server_config(authority: &TestAuthority) -> Arc<rustls::ServerConfig> {
    let (mut chain, key) = authority.sign(leaf_params(&format!("spiffe://weft.test{CONTROL_PLANE_PATH}")));
    chain.extend(authority.bundle().roots);
    let svid = Svid::from_der(chain, key).unwrap();
    let credentials = Credentials::new(svid.into(), authority.bundles().into(), 1);
    credentials.server_config(&[b"h2"], ClientAuth::Optional).unwrap()
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, script: Arc<Script>) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let chain = stream.get_ref().1.peer_certificates();
    let peer = chain.map(|chain| weft_identity::peer_id(chain).unwrap());
    let service = CertificateAuthorityServer::new(Connection { peer, script });
    let service = hyper::service::service_fn(move |request| service.clone().call(request));
    let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    // A client that goes away is its own business.
    _ = http.serve_connection(TokioIo::new(stream), service).await;
}

struct Connection {
    peer: Option<SpiffeId>,
    script: Arc<Script>,
}

#[tonic::async_trait]
impl CertificateAuthority for Connection {
    async fn challenge(&self, _: Request<ChallengeRequest>) -> Result<Response<ChallengeResponse>, Status> {
        Ok(Response::new(ChallengeResponse { nonce: NONCE.into() }))
    }

    async fn issue(&self, request: Request<IssueRequest>) -> Result<Response<IssueResponse>, Status> {
        let request = request.into_inner();
        let kind = self.attest(request.attestation.unwrap());
        self.script.asked.lock().unwrap().push(kind);
        if !matches!(kind, "consul" | "kubernetes" | "nomad") && self.script.refusing.load(Ordering::SeqCst) {
            return Err(Status::permission_denied("not attested"));
        }
        let mut params = leaf_params(WEB);
        params.not_after = (std::time::SystemTime::now() + self.script.life).into();
        let authority = &self.script.authority;
        let roots = authority.bundle().roots.iter().map(|root| root.to_vec().into()).collect();
        Ok(Response::new(IssueResponse {
            chain: vec![authority.certify(&request.csr, params).to_vec().into()],
            bundles: vec![TrustBundle { trust_domain: "weft.test".to_owned(), roots }],
        }))
    }
}

impl Connection {
    fn attest(&self, attestation: Attestation) -> &'static str {
        match attestation {
            Attestation::JoinToken(token) => {
                token.token.parse::<JoinToken>().unwrap();
                "token"
            }
            Attestation::ConsulLeaf(leaf) => {
                assert_eq!((leaf.registry.as_str(), &*leaf.nonce), ("consul/dc1", NONCE));
                assert!(!leaf.signature.is_empty() && !leaf.chain.is_empty());
                "consul"
            }
            Attestation::KubernetesToken(token) => {
                assert_eq!(token.registry, "kubernetes/prod");
                self.script.pod_tokens.lock().unwrap().push(token.token);
                "kubernetes"
            }
            Attestation::NomadToken(token) => {
                assert_eq!((token.registry.as_str(), token.node.as_str()), ("nomad/prod", NODE));
                self.script.pod_tokens.lock().unwrap().push(token.token);
                "nomad"
            }
            Attestation::Renewal(_) => {
                assert_eq!(self.peer.as_ref().unwrap().as_str(), WEB);
                "renewal"
            }
        }
    }
}

/// A Consul agent that has a leaf for everybody who asks. Runs as long as `tasks`.
pub(super) async fn agent(tasks: &mut JoinSet<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        let svid = TestAuthority::new("1111.consul").svid("/ns/default/dc/dc1/svc/web");
        let chain = weft_identity::certificates_to_pem(svid.chain());
        let key = weft_identity::key_to_pem(svid.key());
        let body = serde_json::json!({"CertPEM": chain, "PrivateKeyPEM": key}).to_string();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..length]);
            assert!(request.starts_with("GET /v1/agent/connect/ca/leaf/web HTTP/1.1\r\n"), "{request}");
            let head =
                format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).await.unwrap();
        }
    });
    address
}
