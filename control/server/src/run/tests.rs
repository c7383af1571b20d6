//! The whole process over its own sockets: a proxy joins with a token and follows; the admin endpoint tells of it.

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

#[tokio::test]
async fn a_proxy_joins_follows_and_is_shown() {
    let mesh = Mesh::started("").await;
    let proxy = mesh.join("default/web").await;
    let mut following = proxy.follow(NODE).await;
    let workloads = following.acked().await;
    assert_eq!(workloads.type_url, ResourceType::Workload.url());
    assert_eq!(workloads.resources.len(), 1);
    let services = following.acked().await;
    assert_eq!(services.resources[0].name, "default/api");
    let in_sync = |status: &Status| status.proxies.iter().any(|proxy| proxy.sync == ProxySync::InSync);
    let status = mesh.until("the proxy is in sync", in_sync).await;
    assert_eq!(status.proxies[0].name, NODE);
    assert_eq!(status.proxies[0].subscriptions, 1);
    let dump: ProxyDump = mesh.get(&path::of(path::PROXIES, NODE)).await;
    assert_eq!(dump.types.iter().map(|one| one.held).sum::<usize>(), 2);

    // A change arrives, and convergence is measured.
    let file = mesh.directory.path().join("services/api.yaml");
    std::fs::write(&file, SERVICES.replace("health: healthy", "health: unhealthy")).unwrap();
    assert_eq!(following.acked().await.type_url, ResourceType::Workload.url());
    let key: ServiceKey = "api".parse().unwrap();
    mesh.until("the proxy is in sync again", in_sync).await;
    let (_, metrics) = ask(&mesh.socket(), "GET", "/metrics", "").await.unwrap();
    let metrics = String::from_utf8(metrics.to_vec()).unwrap();
    assert!(metrics.contains("weft_control_convergence_seconds_count 1\n"), "{metrics}");
    assert!(metrics.contains("weft_control_proxies 1\n"), "{metrics}");
    let snapshot: SnapshotView = mesh.get(path::SNAPSHOT).await;
    assert_eq!((snapshot.services[0].key.clone(), snapshot.revision), (key, 2));

    drop(following);
    mesh.until("the proxy is gone", |status| status.proxies.is_empty()).await;
    mesh.stop().await;
}

#[tokio::test]
async fn nobody_gets_the_place_of_another() {
    let mesh = Mesh::started("").await;
    let proxy = mesh.join("default/web").await;
    let mut following = proxy.follow("spiffe://mesh.test/ns/default/sa/api~api-1").await;
    assert_eq!(following.next().await.unwrap_err().code(), Code::PermissionDenied);
    assert!(mesh.status().await.unwrap().proxies.is_empty());

    // Without a certificate there is no stream at all, though there is a connection, for the CA.
    let status = mesh.status().await.unwrap();
    let pin = status.control_plane.roots[0].sha256.parse().unwrap();
    let tls = pinned_client_config(&[pin], CONTROL_PLANE_PATH, &[b"h2"]).unwrap();
    let mut client = AggregatedDiscoveryServiceClient::new(connect(status.control_plane.listen, tls).await);
    let refused = client.delta_aggregated_resources(tokio_stream::iter([subscribe(
        NODE,
        ResourceType::Service,
        "api",
    )]));
    assert_eq!(refused.await.unwrap_err().code(), Code::Unauthenticated);
    mesh.stop().await;
}

#[tokio::test]
async fn a_shutdown_ends_streams_and_a_restart_resends_nothing() {
    let mesh = Mesh::started("").await;
    let proxy = mesh.join("default/web").await;
    let mut following = proxy.follow(NODE).await;
    let mut held = std::collections::HashMap::new();
    for _ in 0..2 {
        let response = following.acked().await;
        let versions = response.resources.into_iter().map(|one| (one.name, one.version));
        held.insert(response.type_url, versions.collect::<std::collections::HashMap<_, _>>());
    }
    let stopping = tokio::spawn(mesh.stop());
    assert_eq!(following.next().await.unwrap_err().code(), Code::Unavailable);
    let directory = stopping.await.unwrap();

    let mesh = Mesh::start(directory, "");
    let status = mesh.until("it is ready again", |status| status.control_plane.ready).await;
    let proxy = Proxy { address: status.control_plane.listen, ..proxy };
    let (requests, receiver) = mpsc::channel(8);
    for kind in [ResourceType::Workload, ResourceType::Service] {
        let again = DeltaDiscoveryRequest {
            initial_resource_versions: held.remove(kind.url()).unwrap(),
            ..subscribe(NODE, kind, "default/api")
        };
        requests.send(again).await.unwrap();
    }
    let mut following = proxy.stream(receiver).await.unwrap();
    mesh.until("the proxy is in sync", |status| {
        status.proxies.iter().any(|one| one.sync == ProxySync::InSync)
    })
    .await;
    let nothing = tokio::time::timeout(Duration::from_millis(300), following.responses.message()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    drop((following, requests));
    mesh.stop().await;
}

#[tokio::test]
async fn a_refused_resource_is_shown_with_the_proxys_words() {
    let mesh = Mesh::started("").await;
    let proxy = mesh.join("default/web").await;
    let mut following = proxy.follow(NODE).await;
    let response = following.next().await.unwrap();
    let error =
        weft_proto::discovery::Status { code: 3, message: "not understood".to_owned(), details: Vec::new() };
    let nack = DeltaDiscoveryRequest {
        type_url: response.type_url,
        response_nonce: response.nonce,
        error_detail: Some(error),
        ..DeltaDiscoveryRequest::default()
    };
    following.requests.send(nack).await.unwrap();
    let refused = |status: &Status| status.proxies.iter().any(|proxy| proxy.sync == ProxySync::Refused);
    let status = mesh.until("the refusal is shown", refused).await;
    let reasons = status.proxies[0].reasons.join("\n");
    assert!(reasons.contains("file/local/api-v1") && reasons.contains("not understood"), "{reasons}");
    drop(following);
    mesh.stop().await;
}

#[tokio::test]
async fn a_stream_that_breaks_the_protocol_is_ended_with_a_reason() {
    let mesh = Mesh::started("").await;
    let proxy = mesh.join("default/web").await;
    for (request, code) in [
        (
            DeltaDiscoveryRequest { node: None, ..subscribe(NODE, ResourceType::Service, "a") },
            Code::InvalidArgument,
        ),
        (subscribe("not a node", ResourceType::Service, "a"), Code::InvalidArgument),
        (
            DeltaDiscoveryRequest { type_url: "x".to_owned(), ..subscribe(NODE, ResourceType::Service, "a") },
            Code::InvalidArgument,
        ),
    ] {
        let (requests, receiver) = mpsc::channel(8);
        requests.send(request).await.unwrap();
        let mut following = proxy.stream(receiver).await.unwrap();
        let status = following.next().await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
    }
    assert!(mesh.status().await.unwrap().proxies.is_empty());
    mesh.stop().await;
}

#[tokio::test]
async fn what_a_registry_said_before_a_restart_is_served_while_it_is_away() {
    let directory = Mesh::started("").await.stop().await;
    std::fs::rename(directory.path().join("services"), directory.path().join("away")).unwrap();
    std::fs::create_dir(directory.path().join("services")).unwrap();
    let mesh = Mesh::start(directory, "[ready]\nregistry_deadline = \"200ms\"");
    // Not there at all, which is another thing than empty.
    std::fs::remove_dir(mesh.directory.path().join("services")).unwrap();
    let status = mesh.until("it is ready", |status| status.control_plane.ready).await;
    assert_eq!((status.control_plane.services, status.control_plane.workloads), (1, 1), "{status:?}");
    assert_ne!(status.registries[0].state, RegistryState::Synced);
    std::fs::rename(mesh.directory.path().join("away"), mesh.directory.path().join("services")).unwrap();
    mesh.until("it is back", |status| status.registries[0].state == RegistryState::Synced).await;
    mesh.stop().await;
}

#[tokio::test]
async fn a_registry_that_does_not_answer_is_waited_for_until_its_deadline() {
    let consul = "[ready]\nregistry_deadline = \"1s\"\n[[registry]]\nid = \"consul/dc1\"\n\
                  [registry.consul]\naddress = \"http://127.0.0.1:1\"";
    let mesh = Mesh::start(tempfile::tempdir().unwrap(), consul);
    let early = mesh.until("it answers", |_| true).await;
    assert!(!early.control_plane.ready);
    let (status, body) = ask(&mesh.socket(), "GET", "/ready", "").await.unwrap();
    assert_eq!(status, 503);
    assert!(String::from_utf8_lossy(&body).contains("consul/dc1"), "{body:?}");
    let status = mesh.until("it is ready", |status| status.control_plane.ready).await;
    let states: Vec<RegistryState> = status.registries.iter().map(|registry| registry.state).collect();
    assert_eq!(states, [RegistryState::Stale, RegistryState::Synced]);
    assert!(status.control_plane.notes[0].contains("consul/dc1"), "{:?}", status.control_plane.notes);
    mesh.stop().await;
}

#[tokio::test]
async fn while_a_registry_was_never_heard_a_proxy_keeps_what_it_holds_and_the_status_says_why() {
    let consul = "[ready]\nregistry_deadline = \"100ms\"\n[[registry]]\nid = \"consul/dc1\"\n\
                  [registry.consul]\naddress = \"http://127.0.0.1:1\"";
    let mesh = Mesh::started(consul).await;
    let proxy = mesh.join("default/web").await;
    let (requests, receiver) = mpsc::channel(8);
    for (kind, held) in
        [(ResourceType::Workload, "consul/dc1/n/api-9"), (ResourceType::Service, "default/pay")]
    {
        let mut request = subscribe(NODE, kind, "default/pay");
        request.initial_resource_versions.insert(held.to_owned(), "0".repeat(32));
        requests.send(request).await.unwrap();
    }
    let mut following = Following { requests, ..proxy.stream(receiver).await.unwrap() };
    let told = |status: &Status| status.proxies.first().is_some_and(|proxy| proxy.reasons.len() == 2);
    let status = mesh.until("it is told what is undecided", told).await;
    assert_eq!(status.proxies[0].sync, ProxySync::InSync);
    let reasons = status.proxies[0].reasons.join("\n");
    assert!(reasons.contains("1 of Service are undecided until consul/dc1 is heard"), "{reasons}");
    let notes = status.control_plane.notes.join("\n");
    assert!(notes.contains("nothing is known of consul/dc1: proxies keep what they have"), "{notes}");
    let nothing = tokio::time::timeout(Duration::from_millis(300), following.responses.message()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    drop(following);
    mesh.stop().await;
}

#[tokio::test]
async fn a_stream_ends_with_the_certificate_that_opened_it() {
    let directory = tempfile::tempdir().unwrap();
    let other = weft_identity::testkit::TestAuthority::new("mesh.test");
    let root = directory.path().join("other.pem");
    std::fs::write(&root, other.bundle().to_pem()).unwrap();
    let mesh = Mesh::start(directory, &format!("[ca]\nextra_roots = [{root:?}]"));
    mesh.until("it is ready", |status| status.control_plane.ready).await;
    let joined = mesh.join("default/web").await;
    let mut params = weft_identity::testkit::leaf_params("spiffe://mesh.test/ns/default/sa/web");
    params.not_after = (SystemTime::now() + Duration::from_secs(2)).into();
    let (chain, key) = other.sign(params);
    let bundles = joined.source.current().unwrap().bundles.as_ref().clone();
    let source = SvidSource::new();
    source.set(Svid::from_der(chain, key).unwrap(), bundles);
    let short = Proxy { source, address: joined.address };
    let (mut short, mut long) = (short.follow(NODE).await, joined.follow(NODE).await);
    for following in [&mut short, &mut long] {
        following.acked().await;
        following.acked().await;
    }
    let started = std::time::Instant::now();
    let ended = short.next().await.unwrap_err();
    assert_eq!(ended.code(), Code::Unauthenticated, "{ended}");
    assert!(ended.message().contains("has expired"), "{ended}");
    assert!(started.elapsed() > Duration::from_secs(5), "not before it is over: {:?}", started.elapsed());
    let goes_on = tokio::time::timeout(Duration::from_millis(200), long.responses.message()).await;
    assert!(goes_on.is_err(), "{goes_on:?}");
    drop((short, long));
    mesh.stop().await;
}

#[tokio::test]
async fn more_streams_than_the_limit_are_refused_until_one_ends() {
    let mesh = Mesh::started("limits.streams = 1").await;
    let proxy = mesh.join("default/web").await;
    let mut first = proxy.follow(NODE).await;
    first.acked().await;
    let (_requests, receiver) = mpsc::channel(1);
    let refused = proxy.stream(receiver).await.err().expect("refused");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    drop(first);
    mesh.until("the first is gone", |status| status.proxies.is_empty()).await;
    proxy.follow(NODE).await.acked().await;
    mesh.stop().await;
}

#[tokio::test]
async fn the_admin_endpoint_on_tcp_only_reads() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mesh = Mesh::started(&format!("admin.listen = \"{free}\"")).await;
    let tcp = |method, path, host| async move {
        let stream = TcpStream::connect(free).await.unwrap();
        exchange(TokioIo::new(stream), host, method, path, "{}").await.unwrap().0
    };
    assert_eq!(tcp("GET", "/ready", "localhost").await, 200);
    assert_eq!(tcp("GET", path::SERVICES, "127.0.0.1:1").await, 200);
    assert_eq!(tcp("GET", path::SERVICES, "evil.test").await, 403);
    assert_eq!(tcp("GET", path::TOKENS, "localhost").await, 403);
    assert_eq!(tcp("POST", path::TOKENS, "localhost").await, 403);
    assert_eq!(tcp("DELETE", "/v1/tokens/a", "localhost").await, 403);
    mesh.stop().await;
}

#[tokio::test]
async fn tokens_are_made_listed_and_revoked() {
    let mesh = Mesh::started("").await;
    mesh.token("default/web").await;
    let listed: Vec<weft_control_api::TokenView> = mesh.get(path::TOKENS).await;
    assert_eq!(listed[0].identity, "spiffe://mesh.test/ns/default/sa/web");
    let one = path::of(path::TOKENS, &listed[0].id);
    assert_eq!(ask(&mesh.socket(), "DELETE", &one, "").await.unwrap().0, 200);
    assert_eq!(ask(&mesh.socket(), "DELETE", &one, "").await.unwrap().0, 404);
    for (body, status) in [
        ("", 400),
        ("{\"identity\":\"web\",\"ttl_seconds\":60}", 400),
        ("{\"identity\":\"a/b\",\"ttl_seconds\":0}", 400),
        ("{\"identity\":\"weft-system/weft-control\",\"ttl_seconds\":60}", 400),
        ("{\"identity\":\"a/b\",\"ttl_seconds\":60,\"uses\":2}", 400),
    ] {
        assert_eq!(ask(&mesh.socket(), "POST", path::TOKENS, body).await.unwrap().0, status, "{body}");
    }
    for (method, path, status) in
        [("GET", "/v2", 404), ("PUT", path::TOKENS, 405), ("GET", "/v1/proxies/none", 404)]
    {
        assert_eq!(ask(&mesh.socket(), method, path, "").await.unwrap().0, status, "{method} {path}");
    }
    mesh.stop().await;
}

#[tokio::test]
async fn a_second_process_is_refused_and_a_stale_socket_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    std::fs::create_dir(&state).unwrap();
    drop(std::os::unix::net::UnixListener::bind(state.join("admin.sock")).unwrap());
    let mesh = Mesh::start(directory, "");
    mesh.until("it is ready", |status| status.control_plane.ready).await;
    let settings = crate::settings::load(Some(&mesh.directory.path().join("control.toml")), &[]).unwrap();
    let error = run(settings, None, std::future::pending()).await.unwrap_err();
    assert!(format!("{error:#}").contains("lock") || format!("{error:#}").contains("another"), "{error:#}");
    assert!(mesh.status().await.is_some(), "the first one goes on");
    mesh.stop().await;
}
