//! What the data path's tests are made of: proxies within the test's own thread, applications, and a client.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ::http::{Request, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, LocalSet};
use weft_identity::testkit::TestAuthority;
use weft_identity::{SvidSource, TrustBundles};
use weft_model::{Health, Locality, Protocol, SpiffeId, Tunnel};

use crate::config::{ConfigStore, Endpoint, EndpointPort, KnownService, ProxyConfig, ServiceConfig};
use crate::demand::Demand;
use crate::http::call::Ledger;
use crate::overload::{FileLimit, Overload};
use crate::record::Record;
use crate::settings::{HttpSettings, InboundSettings, Settings, UpstreamSettings};
use crate::shared::{DrainSignal, Shared, Sockets};
use crate::telemetry::{Observed, Telemetry};
use crate::worker;

pub(super) const API: &str = "/ns/default/sa/api";
pub(super) const WEB: &str = "/ns/default/sa/web";

/// Runs a test in a `LocalSet` on a paused-free, single-threaded runtime, and never for ever.
pub(super) fn run<F: Future<Output = ()> + 'static>(test: F) {
    weft_identity::install_crypto_provider();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limited =
        async { tokio::time::timeout(Duration::from_secs(20), test).await.expect("the test hangs") };
    LocalSet::new().block_on(&runtime, limited);
}

/// Remembers what ended.
#[derive(Default)]
pub(super) struct Records(RefCell<Vec<Record>>);

impl Ledger for Records {
    fn started(&self) {}
    fn ended(&self, record: &Record) {
        self.0.borrow_mut().push(record.clone());
    }
    fn cuts(&self) -> bool {
        false
    }
}

/// A proxy that runs.
pub(super) struct Proxy {
    pub(super) shared: Arc<Shared>,
    pub(super) records: Rc<Records>,
    pub(super) task: JoinHandle<std::io::Result<()>>,
}

impl Proxy {
    /// Starts one with the identity of `path`.
    pub(super) fn start(authority: &TestAuthority, path: &str, settings: Settings) -> Self {
        Self::trusting(authority, authority.bundles(), path, settings)
    }

    /// The same with other trust bundles than its authority's.
    pub(super) fn trusting(
        authority: &TestAuthority,
        bundles: TrustBundles,
        path: &str,
        settings: Settings,
    ) -> Self {
        let (shared, sockets) = prepare(authority, bundles, path, settings);
        Self::of(Arc::new(shared), sockets)
    }

    /// The same where only so many files may be open.
    pub(super) fn with_files(authority: &TestAuthority, path: &str, settings: Settings, most: u64) -> Self {
        let (mut shared, sockets) = prepare(authority, authority.bundles(), path, settings);
        shared.files = FileLimit::of(most);
        Self::of(Arc::new(shared), sockets)
    }

    /// The same that takes so many connections and requests whatever the pressure.
    pub(super) fn always_taking(
        authority: &TestAuthority,
        path: &str,
        settings: Settings,
        always: usize,
    ) -> Self {
        let (mut shared, sockets) = prepare(authority, authority.bundles(), path, settings);
        shared.overload.always = always;
        Self::of(Arc::new(shared), sockets)
    }

    fn of(shared: Arc<Shared>, sockets: Sockets) -> Self {
        let records = Rc::new(Records::default());
        let serving = worker::serve(shared.clone(), sockets, records.clone());
        Self { shared, records, task: tokio::task::spawn_local(serving) }
    }

    pub(super) fn tunnel(&self) -> SocketAddr {
        self.shared.bound.tunnel.unwrap()
    }

    pub(super) fn upstream(&self) -> SocketAddr {
        self.shared.bound.upstreams[0]
    }

    /// Gives it services to know.
    pub(super) fn knows(&self, services: impl IntoIterator<Item = ServiceConfig>) {
        let mut next = ProxyConfig::clone(&self.shared.config.load());
        next.revision += 1;
        for service in services {
            next.services.insert(service.key.clone(), KnownService::Present(Arc::new(service)));
        }
        self.shared.config.publish(next);
    }

    /// The lines of a metric, without its name.
    pub(super) fn metric(&self, name: &str) -> Vec<String> {
        metric(&self.shared, name)
    }

    /// How many were refused by a limit.
    pub(super) fn refusals(&self, of: &str, limit: &str) -> u64 {
        let labels = format!("{{of=\"{of}\",limit=\"{limit}\"}} ");
        let lines = self.metric("weft_limit_refusals_total");
        lines.iter().find_map(|line| line.strip_prefix(&labels)?.parse().ok()).unwrap()
    }

    /// The record number `n`, once it is there.
    pub(super) async fn record(&self, n: usize) -> Record {
        loop {
            if let Some(record) = self.records.0.borrow().get(n) {
                return record.clone();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Looks until it is so; the test's own time-out ends it.
pub(super) async fn eventually(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The lines of a metric, without its name.
pub(super) fn metric(shared: &Shared, name: &str) -> Vec<String> {
    let observed = Observed { ready: true, version: "test", ..Observed::default() };
    let text = shared.telemetry.exposition(&observed);
    text.lines().filter_map(|line| line.strip_prefix(name)).map(|rest| rest.trim().to_owned()).collect()
}

/// All that a worker needs.
pub(super) fn prepare(
    authority: &TestAuthority,
    bundles: TrustBundles,
    path: &str,
    mut settings: Settings,
) -> (Shared, Sockets) {
    settings.tunnel.listen = free();
    let (mut sockets, bound) = crate::sockets::bind(&settings).unwrap();
    let svids = SvidSource::new();
    svids.set(authority.svid(path), bundles);
    let mut overload = Overload::new(1000);
    overload.always = 0;
    let shared = Shared {
        demand: Demand::new(settings.upstream.iter().map(|upstream| upstream.service.clone()), 10),
        addresses: Demand::new([], 10),
        names: None,
        telemetry: Telemetry::new(&settings).unwrap(),
        config: ConfigStore::new(ProxyConfig::default()),
        drain: DrainSignal::new(),
        overload,
        files: FileLimit::of(u64::MAX),
        svids,
        bound,
        settings,
    };
    (shared, sockets.remove(0))
}

/// A free port of this host.
pub(super) fn free() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// An address where nobody listens.
pub(super) fn nobody() -> SocketAddr {
    std::net::TcpListener::bind(free()).unwrap().local_addr().unwrap()
}

/// Settings of a callee: one inbound port that leads to `app`.
pub(super) fn callee(app: SocketAddr, protocol: Protocol) -> Settings {
    let inbound = InboundSettings {
        service: "api".parse().unwrap(),
        port: 8080,
        app: Some(app),
        protocol,
        permissive: None,
    };
    Settings { inbound: vec![inbound], ..Settings::default() }
}

/// Settings of a caller: one upstream to the service `api`, and the HTTP port.
pub(super) fn caller(protocol: Option<Protocol>) -> Settings {
    let upstream = UpstreamSettings {
        service: "api".parse().unwrap(),
        port: None,
        listen: free(),
        protocol,
        plaintext: false,
    };
    let http = Some(HttpSettings { listen: free(), plaintext: false });
    Settings { upstream: vec![upstream], http, ..Settings::default() }
}

/// The service `api` with these endpoints.
pub(super) fn api(protocol: Protocol, endpoints: impl IntoIterator<Item = Endpoint>) -> ServiceConfig {
    let endpoints = endpoints.into_iter().map(|mut endpoint| {
        endpoint.ports = vec![EndpointPort { name: None, number: 8080, protocol }];
        Arc::new(endpoint)
    });
    ServiceConfig {
        key: "api".parse().unwrap(),
        ports: Vec::new(),
        endpoints: endpoints.collect(),
        prefer: None,
    }
}

/// An endpoint whose proxy is at `tunnel` and has the identity of the api.
pub(super) fn endpoint(name: &str, tunnel: SocketAddr) -> Endpoint {
    Endpoint {
        id: format!("file/{name}").parse().unwrap(),
        addresses: vec![tunnel.ip()],
        ports: Vec::new(),
        identity: Some(id(API)),
        tunnel: Tunnel::Port(tunnel.port()),
        captured: false,
        weight: 100,
        health: Health::Healthy,
        locality: Locality::default(),
        node: None,
        app: "api".into(),
        version: "v1".into(),
    }
}

pub(super) fn id(path: &str) -> SpiffeId {
    format!("spiffe://weft.test{path}").parse().unwrap()
}

/// A caller's and a callee's proxy in front of `app`.
pub(super) struct Pair {
    pub(super) web: Proxy,
    pub(super) api: Proxy,
}

impl Pair {
    pub(super) fn start(app: SocketAddr, protocol: Protocol) -> Self {
        let authority = TestAuthority::new("weft.test");
        let callee = Proxy::start(&authority, API, callee(app, protocol));
        let web = Proxy::start(&authority, WEB, caller(None));
        web.knows([api(protocol, [endpoint("api-1", callee.tunnel())])]);
        Self { web, api: callee }
    }
}

/// An HTTP application: `answer` for every request, HTTP/1 or HTTP/2.
pub(super) async fn app<F, B>(
    http2: bool,
    answer: impl Fn(Request<Incoming>) -> F + Clone + 'static,
) -> SocketAddr
where
    F: Future<Output = Response<B>> + 'static,
    B: ::http_body::Body<Data = Bytes, Error = Infallible> + 'static,
{
    let listener = TcpListener::bind(free()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            let service = service_fn(move |request| {
                let answer = answer.clone();
                async move { Ok::<_, Infallible>(answer(request).await) }
            });
            tokio::task::spawn_local(async move {
                let io = TokioIo::new(stream);
                if http2 {
                    let mut builder = hyper::server::conn::http2::Builder::new(LocalExec);
                    let _ = builder.enable_connect_protocol().serve_connection(io, service).await;
                } else {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(io, service)
                        .with_upgrades()
                        .await;
                }
            });
        }
    });
    address
}

/// An application that says its name and repeats what it was sent.
pub(super) async fn echo(name: &'static str) -> SocketAddr {
    app(false, move |request: Request<Incoming>| async move {
        let headers = format!("{:?}", request.headers());
        let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        Response::builder()
            .header("x-name", name)
            .header("x-headers", headers)
            .header("weft-secret", "of the application")
            .body(Full::new(body))
            .unwrap()
    })
    .await
}

/// Sends raw bytes and reads until the end of the connection.
pub(super) async fn raw(to: SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// One GET on a connection of its own.
pub(super) async fn get(to: SocketAddr, host: &str) -> String {
    raw(to, &format!("GET /path?q=1 HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")).await
}

/// Spawns what hyper's clients and servers of the tests spawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct LocalExec;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExec {
    fn execute(&self, future: F) {
        drop(tokio::task::spawn_local(async move { drop(future.await) }));
    }
}
