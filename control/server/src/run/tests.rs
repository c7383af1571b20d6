//! The whole process over its own sockets: a proxy joins with a token and follows; the admin endpoint tells of it.

mod admin;
mod limits;
mod registries;
mod streams;

use std::path::Path;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use futures::channel::oneshot;
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::de::DeserializeOwned;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tonic::Code;
use tonic::transport::{Channel, Endpoint, Uri};
use weft_control_api::{ProxyDump, ProxySync, RegistryState, SnapshotView, Status, TokenCreated, path};
use weft_identity::{
    CONTROL_PLANE_PATH, Svid, SvidSource, TrustBundle, TrustBundles, new_key_and_csr, pinned_client_config,
};
use weft_model::{ServiceKey, SpiffeId, TrustDomain};
use weft_proto::ResourceType;
use weft_proto::ca::v1 as ca_wire;
use weft_proto::ca::v1::certificate_authority_client::CertificateAuthorityClient;
use weft_proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use weft_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};

use super::*;

const SERVICES: &str = "\
kind: Service
name: api
ports: [{name: http, number: 80, protocol: http1}]
---
kind: Workload
name: api-v1
service: api
addresses: [127.0.0.1]
ports: [{name: http, number: 8080, protocol: http1}]
health: healthy
tunnel: 15008
";

/// A running control plane.
struct Mesh {
    directory: tempfile::TempDir,
    task: tokio::task::JoinHandle<Result<()>>,
    stop: Option<oneshot::Sender<()>>,
}

impl Mesh {
    fn start(directory: tempfile::TempDir, more: &str) -> Self {
        weft_identity::install_crypto_provider();
        let services = directory.path().join("services");
        if !services.exists() {
            std::fs::create_dir(&services).unwrap();
            std::fs::write(services.join("api.yaml"), SERVICES).unwrap();
        }
        let toml = format!(
            "listen = \"127.0.0.1:0\"\ntrust_domain = \"mesh.test\"\nstate_dir = {:?}\n{more}\n\
             [[registry]]\nid = \"file/local\"\ndirectory = {services:?}\n",
            directory.path().join("state"),
        );
        let file = directory.path().join("control.toml");
        std::fs::write(&file, toml).unwrap();
        let settings = crate::settings::load(Some(&file), &[]).unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(run(settings, None, async { _ = stopped.await }));
        Self { directory, task, stop: Some(stop) }
    }

    async fn started(more: &str) -> Self {
        let mesh = Self::start(tempfile::tempdir().unwrap(), more);
        mesh.until("it is ready", |status| status.control_plane.ready).await;
        mesh
    }

    fn socket(&self) -> std::path::PathBuf {
        self.directory.path().join("state/admin.sock")
    }

    async fn status(&self) -> Option<Status> {
        let (status, body) = ask(&self.socket(), "GET", path::STATUS, "").await?;
        assert_eq!(status, 200);
        Some(serde_json::from_slice(&body).unwrap())
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        let (status, body) = ask(&self.socket(), "GET", path, "").await.unwrap();
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    async fn until(&self, what: &str, holds: impl Fn(&Status) -> bool) -> Status {
        for _ in 0..500 {
            if let Some(status) = self.status().await.filter(|status| holds(status)) {
                return status;
            }
            assert!(!self.task.is_finished(), "it stopped before {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("not within 10 s: {what}: {:?}", self.status().await);
    }

    async fn token(&self, identity: &str) -> String {
        let request = format!("{{\"identity\":{identity:?},\"ttl_seconds\":60}}");
        let (status, body) = ask(&self.socket(), "POST", path::TOKENS, &request).await.unwrap();
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
        serde_json::from_slice::<TokenCreated>(&body).unwrap().token
    }

    /// A proxy of `identity` with its certificate.
    async fn join(&self, identity: &str) -> Proxy {
        let status = self.status().await.unwrap();
        let pin = status.control_plane.roots[0].sha256.parse().unwrap();
        let tls = pinned_client_config(&[pin], CONTROL_PLANE_PATH, &[b"h2"]).unwrap();
        let address = status.control_plane.listen;
        let channel = connect(address, tls).await;
        let (key, csr) = new_key_and_csr(None).unwrap();
        let token = self.token(identity).await;
        let attestation = ca_wire::issue_request::Attestation::JoinToken(ca_wire::JoinToken { token });
        let request = ca_wire::IssueRequest { csr: csr.into(), attestation: Some(attestation) };
        let issued = CertificateAuthorityClient::new(channel).issue(request).await.unwrap().into_inner();
        let chain = issued.chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
        let svid = Svid::from_der(chain, PrivateKeyDer::Pkcs8(key)).unwrap();
        let source = SvidSource::new();
        let roots = issued.bundles[0].roots.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
        let domain: TrustDomain = issued.bundles[0].trust_domain.parse().unwrap();
        source.set(svid, TrustBundles::from_iter([TrustBundle::new(domain, roots).unwrap()]));
        Proxy { source, address }
    }

    async fn stop(mut self) -> tempfile::TempDir {
        self.stop.take().unwrap().send(()).unwrap();
        self.task.await.unwrap().unwrap();
        assert!(!self.directory.path().join("state/admin.sock").exists(), "the socket is left");
        self.directory
    }
}

/// One request to the admin socket; `None` while nobody listens.
async fn ask(socket: &Path, method: &str, path: &str, body: &str) -> Option<(u16, Bytes)> {
    let stream = UnixStream::connect(socket).await.ok()?;
    exchange(TokioIo::new(stream), "localhost", method, path, body).await
}

async fn exchange<S>(
    stream: TokioIo<S>,
    host: &str,
    method: &str,
    path: &str,
    body: &str,
) -> Option<(u16, Bytes)>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.ok()?;
    let connection = tokio::spawn(connection);
    let request = http::Request::builder().method(method).uri(path).header("host", host);
    let response =
        sender.send_request(request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()).await.ok()?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.ok()?.to_bytes();
    connection.abort();
    Some((status, body))
}

/// A tonic connector of one TLS configuration.
#[derive(Clone)]
struct Connector(std::net::SocketAddr, Arc<rustls::ClientConfig>);

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<tokio_rustls::client::TlsStream<TcpStream>>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self(address, tls) = self.clone();
        let connecting: BoxFuture<'static, _> = Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            let name = address.ip().into();
            Ok(TokioIo::new(TlsConnector::from(tls).connect(name, stream).await?))
        });
        connecting
    }
}

async fn connect(address: std::net::SocketAddr, tls: Arc<rustls::ClientConfig>) -> Channel {
    let endpoint = Endpoint::from_static("http://control.test");
    endpoint.connect_with_connector(Connector(address, tls)).await.unwrap()
}

struct Proxy {
    source: SvidSource,
    address: std::net::SocketAddr,
}

struct Following {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: tonic::Streaming<DeltaDiscoveryResponse>,
}

impl Proxy {
    async fn stream(
        &self,
        requests: mpsc::Receiver<DeltaDiscoveryRequest>,
    ) -> Result<Following, tonic::Status> {
        let expected: SpiffeId = format!("spiffe://mesh.test{CONTROL_PLANE_PATH}").parse().unwrap();
        let tls = self.source.current().unwrap().client_config(&expected, &[b"h2"]).unwrap();
        let mut client = AggregatedDiscoveryServiceClient::new(connect(self.address, tls).await);
        let stream = tokio_stream::wrappers::ReceiverStream::new(requests);
        let responses = client.delta_aggregated_resources(stream).await?.into_inner();
        Ok(Following { requests: mpsc::channel(1).0, responses })
    }

    async fn follow(&self, node: &str) -> Following {
        let (requests, receiver) = mpsc::channel(8);
        for kind in [ResourceType::Workload, ResourceType::Service] {
            requests.send(subscribe(node, kind, "default/api")).await.unwrap();
        }
        let following = self.stream(receiver).await.unwrap();
        Following { requests, ..following }
    }
}

fn subscribe(node: &str, kind: ResourceType, name: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(Node { id: node.to_owned(), user_agent_name: "test".to_owned(), ..Node::default() }),
        type_url: kind.url().to_owned(),
        resource_names_subscribe: vec![name.to_owned()],
        ..DeltaDiscoveryRequest::default()
    }
}

impl Following {
    async fn next(&mut self) -> Result<DeltaDiscoveryResponse, tonic::Status> {
        let next = tokio::time::timeout(Duration::from_secs(10), self.responses.message()).await;
        next.expect("a response within 10 s").map(|response| response.expect("the stream goes on"))
    }

    async fn acked(&mut self) -> DeltaDiscoveryResponse {
        let response = self.next().await.unwrap();
        let ack = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..DeltaDiscoveryRequest::default()
        };
        self.requests.send(ack).await.unwrap();
        response
    }
}

const NODE: &str = "spiffe://mesh.test/ns/default/sa/web~web-1";
