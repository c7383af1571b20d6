//! A gRPC channel over our own TLS.
//!
//! tonic's TLS settings can't express "this SPIFFE id and no host name", so that the connection is made here and handed
//! over. The verifier in the `ClientConfig` decides who may answer; the host name is only where to connect.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address can't be one.
    #[error("{0:?} is not an address of the form host:port")]
    Address(String),
    /// No connection, or nobody there who may answer.
    #[error("connecting to {address}: {reason}")]
    Connect {
        /// Where to.
        address: String,
        /// What failed, with its causes.
        reason: String,
        /// The same.
        #[source]
        source: tonic::transport::Error,
    },
}

/// TCP and TLS together. A control plane that is up answers in milliseconds.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// A peer that vanished without a word is noticed within 40 s (D22).
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_WITHIN: Duration = Duration::from_secs(10);
/// A whole response fits, so that the first state does not wait for window updates.
const WINDOW: u32 = 1 << 20;

/// Connects to a control plane at `address` (`host:port`, also with `https://` before it).
///
/// # Errors
/// When the address is none, or the connection or its TLS handshake fails.
pub async fn connect(address: &str, tls: Arc<ClientConfig>) -> Result<Channel, ConnectError> {
    let target = Target::parse(address, tls)?;
    // To tonic it is plaintext: TLS is inside the connector.
    let endpoint = Endpoint::from_shared(format!("http://{}", target.address))
        .map_err(|_| ConnectError::Address(address.to_owned()))?
        .connect_timeout(CONNECT_WITHIN)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_WITHIN)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    endpoint.connect_with_connector(target).await.map_err(|source| ConnectError::Connect {
        address: address.to_owned(),
        reason: causes(&source),
        source,
    })
}

/// An error and its causes on one line; tonic's own text is "transport error" for everything.
fn causes(error: &dyn std::error::Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let io = cause.downcast_ref::<io::Error>();
        if let Some(refused) = io.and_then(weft_identity::verify_error_of_io) {
            // What rustls makes of it says less, in debug form.
            return refused.to_string();
        }
        let text = cause.to_string();
        if texts.last() != Some(&text) {
            texts.push(text);
        }
        next = cause.source();
    }
    if texts.is_empty() { error.to_string() } else { texts.join(": ") }
}

/// Makes connections to one address.
#[derive(Clone)]
struct Target {
    address: String,
    name: ServerName<'static>,
    tls: Arc<ClientConfig>,
}

impl Target {
    fn parse(text: &str, tls: Arc<ClientConfig>) -> Result<Self, ConnectError> {
        let invalid = || ConnectError::Address(text.to_owned());
        let address = text.strip_prefix("https://").unwrap_or(text).trim_end_matches('/');
        let (host, port) = address.rsplit_once(':').ok_or_else(invalid)?;
        port.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(invalid)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(bare.to_owned()).map_err(|_| invalid())?;
        let mut tls = tls;
        if tls.alpn_protocols != [b"h2"] {
            Arc::make_mut(&mut tls).alpn_protocols = vec![b"h2".to_vec()];
        }
        Ok(Self { address: address.to_owned(), name, tls })
    }

    async fn open(self) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        let tcp = TcpStream::connect(&self.address).await?;
        // Requests are small and each waits for its answer.
        tcp.set_nodelay(true)?;
        let tls = TlsConnector::from(self.tls).connect(self.name, tcp).await?;
        Ok(TokioIo::new(tls))
    }
}

impl tower_service::Service<Uri> for Target {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().open())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls() -> Arc<ClientConfig> {
        weft_identity::install_crypto_provider();
        Arc::new(
            ClientConfig::builder()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth(),
        )
    }

    #[test]
    fn an_address_is_host_and_port_in_every_spelling() {
        for good in ["localhost:1", "10.0.0.1:15010", "[::1]:15010", "https://control.example:443", "a:1/"] {
            let target = Target::parse(good, tls()).map_err(|error| error.to_string()).unwrap();
            assert_eq!(target.tls.alpn_protocols, [b"h2"], "{good}");
        }
        for bad in
            ["", "localhost", "localhost:", "localhost:0", "localhost:65536", ":1", "a b:1", "http://a:1"]
        {
            assert!(Target::parse(bad, tls()).is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_refused_connection_says_so() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let refused = connect(&address, tls()).await.unwrap_err().to_string();
        assert!(refused.contains(&address) && refused.contains("refused"), "{refused}");
    }
}
