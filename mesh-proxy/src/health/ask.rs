//! One question to the application over HTTP/1.1 or TLS, or by a mere connection, as a kubelet asks it.
//!
//! Of the answer only the status is read. Redirections are not followed: the application answers, and that is what is asked.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use weft_identity::AnyServer;

use crate::settings::{Header, HttpProbe};

/// Applications leave the kubelet's out of their logs by this name.
pub(super) const AGENT: &str = concat!("kube-probe/weft-", env!("CARGO_PKG_VERSION"));
/// More of an answer's head is not read.
const LARGEST_HEAD: usize = 16 * 1024;

/// The status of a `GET`.
pub(super) async fn http(probe: &HttpProbe, address: SocketAddr) -> Result<StatusCode, String> {
    let stream = connect(address).await?;
    if !probe.https {
        return get(probe, address, stream).await;
    }
    let name = ServerName::IpAddress(address.ip().into());
    let stream = TlsConnector::from(tls()?).connect(name, stream).await;
    get(probe, address, stream.map_err(|error| format!("TLS to {address}: {error}"))?).await
}

/// OK if somebody listens.
pub(super) async fn tcp(address: SocketAddr) -> Result<StatusCode, String> {
    connect(address).await.map(|_| StatusCode::OK)
}

/// A connection to the application.
pub(super) async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    TcpStream::connect(address).await.map_err(|error| format!("connecting to {address}: {error}"))
}

async fn get<S>(probe: &HttpProbe, address: SocketAddr, stream: S) -> Result<StatusCode, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: hyper::Error| format!("asking {address}: {error}");
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = probe.path.clone().into();
    *request.headers_mut() = headers(probe, address);
    let mut client = http1::Builder::new();
    let connected = client.max_buf_size(LARGEST_HEAD).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = connected.map_err(failed)?;
    let driven = async {
        // Why it ended is what the sender says.
        _ = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        response = sender.send_request(request) => response.map(|it| it.status()).map_err(failed),
        () = driven => Err(String::new()),
    }
}

fn headers(probe: &HttpProbe, address: SocketAddr) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for Header { name, value } in &probe.headers {
        headers.append(name.clone(), value.clone());
    }
    // What would change how the message is read; a kubelet leaves them out too.
    for name in [CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    if let Some(host) = &probe.host {
        headers.insert(HOST, host.clone());
    }
    headers.entry(HOST).or_insert_with(|| authority(address));
    headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers
}

/// An address is always a legal value.
fn authority(address: SocketAddr) -> HeaderValue {
    HeaderValue::try_from(address.to_string()).unwrap_or(HeaderValue::from_static("localhost"))
}

/// Made once, when first needed.
fn tls() -> Result<Arc<ClientConfig>, String> {
    static CONFIG: LazyLock<Option<Arc<ClientConfig>>> = LazyLock::new(|| {
        let provider = CryptoProvider::get_default()?;
        let builder = ClientConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions().ok()?.dangerous();
        // The application is asked whether it lives, not who it is, and is told nothing.
        let verifier = AnyServer::new(provider.clone());
        let mut config = builder.with_custom_certificate_verifier(verifier).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.enable_sni = false;
        Some(Arc::new(config))
    });
    CONFIG.clone().ok_or_else(|| "TLS is not set up".to_owned())
}
