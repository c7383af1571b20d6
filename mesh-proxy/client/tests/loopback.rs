//! The shell against real sockets: mTLS, a minimal server around `weft_xds::Stream`, kills and reconnects.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::{Stream as FuturesStream, StreamExt as _};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use weft_identity::testkit::TestAuthority;
use weft_identity::{ClientAuth, Credentials};
use weft_model::{Catalog, Entry, Health, Network, RegistryEvent, ServiceKey, Tunnel, Workload};
use weft_proto::TrustBundle;
use weft_proto::discovery::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use weft_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use weft_xds::{Published, Stream, StreamSettings};
use weft_xds_client::{ClientSettings, Command, Event, Update, connect, run};

const CONTROL: &str = "/ns/weft-system/sa/weft-control";
const WEB: &str = "/ns/default/sa/web";

fn credentials(authority: &TestAuthority, path: &str) -> Credentials {
    weft_identity::install_crypto_provider();
    Credentials::new(Arc::new(authority.svid(path)), Arc::new(authority.bundles()), 1)
}

fn client_tls(authority: &TestAuthority, expected: &str) -> Arc<rustls::ClientConfig> {
    let expected = format!("spiffe://mesh.test{expected}").parse().unwrap();
    credentials(authority, WEB).client_config(&expected, &[b"h2"]).unwrap()
}

/// A control plane's discovery half.
#[derive(Clone)]
struct Ads {
    published: watch::Receiver<Arc<Published>>,
    resources_sent: Arc<AtomicUsize>,
}

type Responses = Pin<Box<dyn FuturesStream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type DeltaAggregatedResourcesStream = Responses;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let (responses, receiver) = mpsc::channel(16);
        // Lives while its stream does.
        let driving = self.clone().drive(request.into_inner(), responses);
        let responses = futures::stream::select(
            ReceiverStream::new(receiver),
            futures::stream::once(driving).filter_map(|()| std::future::ready(None)),
        );
        Ok(Response::new(Box::pin(responses)))
    }
}

impl Ads {
    async fn drive(
        mut self,
        mut requests: Streaming<DeltaDiscoveryRequest>,
        out: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
    ) {
        let mut stream = Stream::new(StreamSettings::default());
        loop {
            let responses = tokio::select! {
                request = requests.message() => {
                    let Ok(Some(request)) = request else { return };
                    let published = self.published.borrow().clone();
                    stream.on_request(request, &published).unwrap()
                }
                changed = self.published.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let published = self.published.borrow_and_update().clone();
                    stream.on_published(&published)
                }
            };
            for response in responses {
                self.resources_sent.fetch_add(response.resources.len(), Ordering::Relaxed);
                if out.send(Ok(response)).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// A running server; dropping it breaks its connections.
struct Server {
    address: SocketAddr,
    resources_sent: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

async fn serve(authority: &TestAuthority, path: &str, published: watch::Receiver<Arc<Published>>) -> Server {
    let tls = credentials(authority, path).server_config(&[b"h2"], ClientAuth::Required).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let ads = Ads { published, resources_sent: Arc::default() };
    let resources_sent = ads.resources_sent.clone();
    let (accepted, connections) = mpsc::channel(4);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut pumps = JoinSet::new();
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = TlsAcceptor::from(tls.clone());
            let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
            // tonic takes a duplex as it is; the pump carries it over TLS.
            let (inner, mut outer) = tokio::io::duplex(1 << 16);
            pumps.spawn(async move {
                let _ = tokio::io::copy_bidirectional(&mut tls, &mut outer).await;
            });
            if accepted.send(Ok::<_, std::io::Error>(inner)).await.is_err() {
                return;
            }
        }
    });
    tasks.spawn(async move {
        let incoming = ReceiverStream::new(connections);
        let server =
            tonic::transport::Server::builder().add_service(AggregatedDiscoveryServiceServer::new(ads));
        server.serve_with_incoming(incoming).await.unwrap();
    });
    Server { address, resources_sent, _tasks: tasks }
}

/// The mesh as the servers see it.
struct Mesh {
    catalog: Catalog,
    published: watch::Sender<Arc<Published>>,
}

impl Mesh {
    fn new() -> Self {
        let mut mesh =
            Self { catalog: Catalog::new(BTreeMap::new()), published: watch::Sender::new(Arc::default()) };
        mesh.set_weight(1);
        mesh
    }

    fn set_weight(&mut self, weight: u32) {
        let workload = Workload {
            id: "vm/a".parse().unwrap(),
            services: BTreeMap::from([("api".parse().unwrap(), Vec::new())]),
            addresses: vec!["10.0.0.1".parse().unwrap()],
            network: Network::default_network(),
            identity: None,
            tunnel: Tunnel::None,
            captured: false,
            locality: Default::default(),
            node: None,
            weight,
            health: Health::Healthy,
            labels: BTreeMap::new(),
            provenance: Default::default(),
        };
        let event = RegistryEvent::Upsert(vec![Entry::from(workload)]);
        let changes = self.catalog.apply(&"consul/dc1".parse().unwrap(), event);
        let roots = vec![vec![0x30].into()];
        let bundles = [TrustBundle { trust_domain: "mesh.test".parse().unwrap(), roots }];
        let next = self.published.borrow().advance(&self.catalog.snapshot(), &changes, &bundles);
        self.published.send_replace(Arc::new(next));
    }
}

/// A client under test. Its task ends with it.
struct Proxy {
    commands: mpsc::Sender<Command>,
    events: mpsc::UnboundedReceiver<Event>,
    _task: JoinSet<()>,
}

fn proxy(
    endpoints: Vec<String>,
    tls: impl Fn() -> Option<Arc<rustls::ClientConfig>> + Send + 'static,
) -> Proxy {
    let (commands, receiver) = mpsc::channel(8);
    // A test reads a handful of events.
    let (sink, events) = mpsc::unbounded_channel();
    let settings = ClientSettings {
        endpoints,
        node: format!("spiffe://mesh.test{WEB}~web-1"),
        user_agent: "weft-proxy/test".to_owned(),
    };
    let mut task = JoinSet::new();
    task.spawn(run(settings, tls, receiver, move |event| {
        let _ = sink.send(event);
    }));
    Proxy { commands, events, _task: task }
}

impl Proxy {
    async fn next<T>(&mut self, what: &str, pick: impl Fn(Event) -> Option<T>) -> T {
        let found = async {
            loop {
                let event = self.events.recv().await.expect("the client runs for ever");
                if let Some(found) = pick(event) {
                    return found;
                }
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(20), found).await;
        found.unwrap_or_else(|_| panic!("no {what} within 20 s"))
    }

    async fn connected(&mut self) {
        self.next("connection", |event| matches!(event, Event::Connected).then_some(())).await;
    }

    async fn disconnected(&mut self) -> String {
        self.next("end", |event| if let Event::Disconnected(why) = event { Some(why) } else { None }).await
    }

    async fn weight(&mut self) -> u32 {
        self.next("service", |event| match event {
            Event::Update(Update::ServicePresent { workloads, .. }) => {
                workloads.values().next().map(|w| w.weight)
            }
            _ => None,
        })
        .await
    }

    async fn subscribe(&self, service: &str) {
        let key: ServiceKey = service.parse().unwrap();
        self.commands.send(Command::Subscribe(key)).await.unwrap();
    }

    async fn held(&self) -> usize {
        let (reply, held) = oneshot::channel();
        self.commands.send(Command::Held(reply)).await.unwrap();
        held.await.unwrap().len()
    }
}

#[tokio::test]
async fn a_client_moves_to_the_next_control_plane_and_nothing_is_sent_again() {
    let authority = TestAuthority::new("mesh.test");
    let mut mesh = Mesh::new();
    let first = serve(&authority, CONTROL, mesh.published.subscribe()).await;
    let second = serve(&authority, CONTROL, mesh.published.subscribe()).await;
    let endpoints = vec![first.address.to_string(), second.address.to_string()];
    let tls = client_tls(&authority, CONTROL);
    let mut proxy = proxy(endpoints, move || Some(tls.clone()));
    proxy.subscribe("default/api").await;
    assert_eq!(proxy.weight().await, 1);
    assert_eq!(proxy.held().await, 3, "a bundle, a workload and a service");

    let (serving, other) = match first.resources_sent.load(Ordering::Relaxed) {
        0 => (second, first),
        _ => (first, second),
    };
    drop(serving);
    proxy.disconnected().await;
    assert_eq!(proxy.held().await, 3, "what is held outlives the stream");
    proxy.connected().await;
    mesh.set_weight(2);
    assert_eq!(proxy.weight().await, 2);
    assert_eq!(other.resources_sent.load(Ordering::Relaxed), 1, "only the change was sent");
}

#[tokio::test]
async fn a_service_is_asked_for_on_demand_and_its_absence_is_told() {
    let authority = TestAuthority::new("mesh.test");
    let mesh = Mesh::new();
    let server = serve(&authority, CONTROL, mesh.published.subscribe()).await;
    let tls = client_tls(&authority, CONTROL);
    let mut proxy = proxy(vec![server.address.to_string()], move || Some(tls.clone()));
    proxy.connected().await;
    proxy.subscribe("default/none").await;
    let absent = |event| if let Event::Update(Update::ServiceAbsent(key)) = event { Some(key) } else { None };
    assert_eq!(proxy.next("absence", absent).await.to_string(), "default/none");
    proxy.subscribe("default/api").await;
    assert_eq!(proxy.weight().await, 1);
    proxy.commands.send(Command::Unsubscribe("default/api".parse().unwrap())).await.unwrap();
    assert_eq!(proxy.held().await, 1, "the bundle stays");
}

#[tokio::test]
async fn a_server_with_another_identity_is_not_spoken_to() {
    let authority = TestAuthority::new("mesh.test");
    let mesh = Mesh::new();
    let impostor = serve(&authority, "/ns/default/sa/other", mesh.published.subscribe()).await;
    let tls = client_tls(&authority, CONTROL);
    let mut proxy = proxy(vec![impostor.address.to_string()], move || Some(tls.clone()));
    let why = proxy.disconnected().await;
    assert!(why.contains(&impostor.address.to_string()), "{why}");
    assert!(why.contains("/ns/default/sa/other"), "{why}");
    assert_eq!(impostor.resources_sent.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn without_a_certificate_it_waits_for_one() {
    let authority = TestAuthority::new("mesh.test");
    let mesh = Mesh::new();
    let server = serve(&authority, CONTROL, mesh.published.subscribe()).await;
    let (issue, issued) = watch::channel(None);
    let mut proxy = proxy(vec![server.address.to_string()], move || issued.borrow().clone());
    assert!(proxy.disconnected().await.contains("certificate"));
    issue.send_replace(Some(client_tls(&authority, CONTROL)));
    proxy.connected().await;
}

#[tokio::test]
async fn a_control_plane_that_accepts_and_hangs_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let authority = TestAuthority::new("mesh.test");
    let tls = client_tls(&authority, CONTROL);
    let address = listener.local_addr().unwrap().to_string();
    let hung = tokio::time::timeout(Duration::from_secs(15), connect(&address, tls)).await;
    assert!(hung.expect("a limit of its own").is_err());
}
