//! The transport over real sockets: who gets in as whom, and that bad clients hinder nobody.

use futures::StreamExt;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use weft_identity::testkit::TestAuthority;
use weft_identity::{CONTROL_PLANE_PATH, Credentials, TrustBundles};

use super::*;

struct Server {
    authority: TestAuthority,
    source: SvidSource,
    address: SocketAddr,
    connections: std::pin::Pin<Box<dyn Stream<Item = io::Result<Connection>> + Send>>,
}

async fn server() -> Server {
    let authority = TestAuthority::new("weft.test");
    let source = SvidSource::new();
    source.set(authority.svid(CONTROL_PLANE_PATH), authority.bundles());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections =
        Box::pin(incoming(listener, source.clone(), Connections::new(ConnectionLimits::default())));
    Server { authority, source, address, connections }
}

impl Server {
    fn client(&self, authority: &TestAuthority, path: &str) -> Arc<ClientConfig> {
        let bundles = TrustBundles::from_iter([self.authority.bundle()]);
        let credentials = Credentials::new(Arc::new(authority.svid(path)), Arc::new(bundles), 1);
        let control = format!("spiffe://weft.test{CONTROL_PLANE_PATH}").parse().unwrap();
        credentials.client_config(&control, &[b"h2"]).unwrap()
    }
    async fn next(&mut self) -> Connection {
        let next = tokio::time::timeout(Duration::from_secs(20), self.connections.next());
        next.await.expect("no connection in time").unwrap().unwrap()
    }
}

async fn connect(
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let name = ServerName::IpAddress(address.ip().into());
    TlsConnector::from(config).connect(name, TcpStream::connect(address).await?).await
}

#[tokio::test]
async fn a_connection_says_whose_it_is_and_carries_bytes() {
    let mut server = server().await;
    let config = server.client(&server.authority, "/ns/shop/sa/web");
    let client = tokio::spawn(connect(server.address, config));
    let mut accepted = server.next().await;
    let mut client = client.await.unwrap().unwrap();
    let peer = accepted.connect_info();
    assert_eq!(peer.id.unwrap().path(), "/ns/shop/sa/web");
    assert!(peer.not_after.unwrap() > SystemTime::now());
    assert_eq!(peer.remote, client.get_ref().0.local_addr().unwrap());
    client.write_all(b"ping").await.unwrap();
    let mut bytes = [0; 4];
    accepted.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"ping");
}

#[tokio::test]
async fn silent_garbage_and_foreign_clients_hinder_nobody() {
    let mut server = server().await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    TcpStream::connect(server.address).await.unwrap().write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let foreign = server.client(&TestAuthority::new("evil.test"), "/ns/shop/sa/web");
    let foreign = tokio::spawn(connect(server.address, foreign));
    let good = tokio::spawn(connect(server.address, server.client(&server.authority, "/ns/shop/sa/api")));
    let started = std::time::Instant::now();
    assert_eq!(server.next().await.connect_info().id.unwrap().path(), "/ns/shop/sa/api");
    assert!(started.elapsed() < HANDSHAKE_TIMEOUT, "it waited for the silent ones");
    good.await.unwrap().unwrap();
    // In TLS 1.3 a refused client learns it with its first read.
    if let Ok(mut stream) = foreign.await.unwrap() {
        assert!(stream.read(&mut [0; 1]).await.is_err(), "the foreign client was let in");
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_restart() {
    let mut server = server().await;
    for _ in 0..2 {
        let current = server.source.current().unwrap().svid.chain()[0].clone();
        let client = tokio::spawn(connect(server.address, server.client(&server.authority, "/a")));
        server.next().await;
        let client = client.await.unwrap().unwrap();
        assert_eq!(client.get_ref().1.peer_certificates().unwrap()[0], current);
        server.source.set_svid(server.authority.svid(CONTROL_PLANE_PATH));
    }
}

#[tokio::test]
async fn without_an_own_certificate_connections_are_closed_until_there_is_one() {
    let authority = TestAuthority::new("weft.test");
    let source = SvidSource::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections =
        Box::pin(incoming(listener, source.clone(), Connections::new(ConnectionLimits::default())));
    let mut server = Server { authority, source, address, connections };
    let config = server.client(&server.authority, "/a");
    let early = tokio::spawn(connect(address, Arc::clone(&config)));
    tokio::select! {
        refused = early => { refused.unwrap().expect_err("let in"); }
        _ = server.connections.next() => panic!("let in"),
    }
    server.source.set(server.authority.svid(CONTROL_PLANE_PATH), server.authority.bundles());
    let later = tokio::spawn(connect(address, config));
    server.next().await;
    later.await.unwrap().unwrap();
}
