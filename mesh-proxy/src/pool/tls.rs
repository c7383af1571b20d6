//! The caller's side of mTLS between proxies, up to the point where the peer has accepted our certificate.
//!
//! With TLS 1.3 the client is done before the server has seen the client's certificate. A refusal would arrive as the
//! failure of the first requests, when nobody knows whether they were worked on. So a new connection between our own
//! proxies waits for the peer's first bytes (its HTTP/2 settings, which it sends at once): one round trip, once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::AsyncBufReadExt;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use weft_identity::{ALPN_HBONE, ALPN_WEFT, RefusalReason, refusal_of_io};
use weft_model::SpiffeId;

use crate::http::call::chain;
use crate::pool::dial::{DialError, DialKind};
use crate::pool::http2::Alpn;
use crate::record::Reporter;
use crate::shared::Shared;
use crate::vanish::FarStream;

/// TLS settings by the expected peer, for the current generation of credentials.
#[derive(Debug, Default)]
pub(super) struct Configs(RefCell<(u64, HashMap<SpiffeId, Arc<ClientConfig>>)>);

impl Configs {
    fn get(&self, shared: &Shared, expected: &SpiffeId) -> Result<(Arc<ClientConfig>, u64), DialError> {
        let Some(credentials) = shared.svids.current() else {
            return Err(DialError::new(DialKind::NoCredentials, "this proxy has no certificate yet"));
        };
        let mut held = self.0.borrow_mut();
        if held.0 != credentials.generation {
            *held = (credentials.generation, HashMap::new());
        }
        if let Some(config) = held.1.get(expected) {
            return Ok((config.clone(), credentials.generation));
        }
        let made = credentials.client_config(expected, &[ALPN_WEFT, ALPN_HBONE]);
        let config = made.map_err(|error| DialError::new(DialKind::NoCredentials, &chain(&error)))?;
        held.1.insert(expected.clone(), config.clone());
        Ok((config, credentials.generation))
    }

    /// Makes `tcp` a connection to the proxy of `expected`.
    pub(super) async fn connect(
        &self,
        shared: &Shared,
        expected: &SpiffeId,
        tcp: FarStream,
        peer: SocketAddr,
    ) -> Result<(TlsStream<FarStream>, Alpn, u64), DialError> {
        let (config, generation) = self.get(shared, expected)?;
        let limit = shared.settings.timeouts.handshake;
        let secured = tokio::time::timeout(limit, secure(config, tcp)).await;
        let timed_out =
            || DialError::new(DialKind::Timeout, &format!("{peer}: no TLS handshake within {limit:?}"));
        let (stream, alpn) = secured
            .map_err(|_elapsed| timed_out())?
            .map_err(|error| refused(shared, peer, expected, &error))?;
        Ok((stream, alpn, generation))
    }
}

async fn secure(config: Arc<ClientConfig>, tcp: FarStream) -> io::Result<(TlsStream<FarStream>, Alpn)> {
    // Neither sent (no SNI) nor checked (the SPIFFE id is); rustls wants some name.
    let name = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::UNSPECIFIED).into());
    let mut stream = TlsConnector::from(config).connect(name, tcp).await?;
    let alpn = match stream.get_ref().1.alpn_protocol() {
        Some(protocol) if protocol == ALPN_WEFT => Alpn::Weft,
        Some(protocol) if protocol == ALPN_HBONE => Alpn::Hbone,
        _ => return Err(io::Error::other(rustls::Error::NoApplicationProtocol)),
    };
    // Only our own proxies are known to speak first.
    if alpn == Alpn::Weft && stream.fill_buf().await?.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the peer closed the connection after the handshake",
        ));
    }
    Ok((stream, alpn))
}

fn refused(shared: &Shared, peer: SocketAddr, expected: &SpiffeId, error: &io::Error) -> DialError {
    let reason = refusal_of_io(error);
    let is_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    if !is_tls {
        return DialError::new(DialKind::Connect, &format!("{peer}: TLS handshake: {}", chain(error)));
    }
    let detail = format!("{peer}, expected {expected}: {}", chain(error));
    shared.telemetry.handshake_refused(Reporter::Source, reason, peer, &detail);
    let kind = match reason {
        RefusalReason::NotTls | RefusalReason::Incompatible | RefusalReason::Other => DialKind::Connect,
        _ => DialKind::Identity,
    };
    DialError::new(kind, &detail)
}
