//! TLS as an attacker speaks it: any certificate on either side, any version and protocol, and what came back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, ClientConfig, ServerConfig, SignatureScheme, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use weft_identity::{AnyServer, crypto_provider};

/// What a caller sees in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A TLS alert.
    Alert(AlertDescription),
    /// The end of the connection, without a word.
    Closed,
    /// HTTP/2 is spoken, and the request is answered.
    Served,
}

/// A caller that takes every server for good and shows this certificate, right or wrong.
pub(crate) fn caller(
    shows: Option<Arc<CertifiedKey>>,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&[u8]],
) -> Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(crypto_provider()).with_protocol_versions(versions)?;
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(AnyServer::new(crypto_provider()))
        .with_client_cert_resolver(Arc::new(Shows(shows)));
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// A server that shows this certificate, right or wrong, and asks for none.
pub(crate) fn callee(
    shows: Arc<CertifiedKey>,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&[u8]],
) -> Result<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(crypto_provider()).with_protocol_versions(versions)?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(Shows(Some(shows))));
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

/// Connects and shakes hands.
pub(crate) async fn connect(
    address: SocketAddr,
    config: ClientConfig,
) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::IpAddress(address.ip().into()), tcp).await
}

/// Connects, waits for the peer's word, and asks for `path`.
pub(crate) async fn knock(address: SocketAddr, config: ClientConfig, port: u16, path: &str) -> Result<Seen> {
    let asked = async {
        let mut tls = match connect(address, config).await {
            Ok(tls) => tls,
            Err(error) => return Ok(seen(&error)),
        };
        // With TLS 1.3 the client is done before the server has judged it.
        let mut first = [0; 9];
        match tls.read_exact(&mut first).await {
            Ok(_) => {}
            Err(error) => return Ok(seen(&error)),
        }
        tls.write_all(&request(port, path)).await?;
        answered(&mut tls, first).await
    };
    match tokio::time::timeout(Duration::from_secs(10), asked).await {
        Ok(seen) => seen,
        Err(_) => bail!("{address} neither serves nor refuses"),
    }
}

/// What an error of a TLS stream tells of the peer.
pub(crate) fn seen(error: &std::io::Error) -> Seen {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => Seen::Alert(*alert),
        _ => Seen::Closed,
    }
}

/// Reads frames until a response's head, beginning with the first frame's head.
async fn answered(from: &mut (impl AsyncRead + Unpin), first: [u8; 9]) -> Result<Seen> {
    let mut head = first;
    loop {
        let [a, b, c, kind, ..] = head;
        if kind == HEADERS {
            return Ok(Seen::Served);
        }
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        for part in [payload.as_mut_slice(), head.as_mut_slice()] {
            if let Err(error) = from.read_exact(part).await {
                return Ok(seen(&error));
            }
        }
    }
}

/// RFC 9113 6.2.
pub(crate) const HEADERS: u8 = 1;

/// HTTP/2's preface, empty settings and one GET of `path` for the registered `port`, as a caller's proxy sends it.
pub(crate) fn request(port: u16, path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86];
    let mut field = |first: &[u8], parts: &[&str]| {
        block.extend_from_slice(first);
        for part in parts {
            block.push(part.len() as u8);
            block.extend_from_slice(part.as_bytes());
        }
    };
    // RFC 7541: indexed names of the static table, then a literal name; nothing is Huffman-coded.
    field(&[0x04], &[path]);
    field(&[0x01], &["api"]);
    field(&[0x00], &["weft-port", &port.to_string()]);
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    bytes.extend_from_slice(&[0, 0, block.len() as u8, HEADERS, 0x05, 0, 0, 0, 1]);
    bytes.extend(block);
    bytes
}

#[derive(Debug)]
struct Shows(Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

impl ResolvesServerCert for Shows {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }
}
