//! The mTLS listener: handshake, the caller's identity, then HTTP/2 until the connection ends.
//!
//! A caller without a certificate, with one of an unknown issuer or of a foreign trust domain does not get past the
//! handshake; each refusal is logged and counted by its reason. The caller learns no more than TLS's alert.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use ::http::HeaderValue;
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use weft_http::http2::Side;
use weft_identity::{ALPN_HBONE, ALPN_WEFT, ClientAuth, RefusalReason, peer_id, refusal_of_io};
use weft_model::SpiffeId;

use crate::authorize::Caller;
use crate::http::call::chain;
use crate::http::watched::Report;
use crate::inbound::{Connection, Ports, http};
use crate::record::Reporter;
use crate::shared::Shared;
use crate::tcp::socket;
use crate::telemetry::{Level, Refused};
use crate::worker::{Guard, Worker};

/// Accepts other proxies.
pub(crate) async fn accept(worker: Rc<Worker>, listener: TcpListener) {
    let tracker = worker.inbound.clone();
    let acceptors = Rc::new(Acceptors::default());
    let serving = worker.clone();
    crate::worker::accept(
        &worker,
        listener,
        tracker,
        || false,
        move |stream, peer, guard| serve(serving.clone(), acceptors.clone(), stream, peer, guard),
    )
    .await;
}

async fn serve(
    worker: Rc<Worker>,
    acceptors: Rc<Acceptors>,
    stream: TcpStream,
    peer: SocketAddr,
    guard: Guard,
) {
    worker.shared.telemetry.rise(Level::TunnelConnections);
    let local = stream.local_addr().ok();
    socket::give_up_unacknowledged(&stream);
    if let Some(secured) = secure(&worker, &acceptors, stream, peer).await {
        let closed = guard.closed();
        let own = worker.own_id();
        let connection = Rc::new(Connection {
            xfcc: xfcc(own.as_ref(), &secured),
            caller: Some(Caller::new(secured.id)),
            ports: Ports::new(&worker.shared.settings, own.as_ref(), local.map(|local| local.ip())),
            peer,
            requests: secured.requests,
            guard: Rc::new(guard),
            worker: worker.clone(),
        });
        let service = http::Streams { connection, fixed: None };
        let report = Report::new(worker.shared.clone(), Side::Accepted, Some(peer));
        if let Err(error) = worker.server.http2(secured.stream, report, service, closed).await {
            tracing::debug!(%peer, error = %chain(&error), "a proxy's connection ended");
        }
    }
    worker.shared.telemetry.fall(Level::TunnelConnections);
}

/// A connection after its handshake.
struct Secured {
    stream: TlsStream<TcpStream>,
    id: SpiffeId,
    certificate: CertificateDer<'static>,
    requests: bool,
}

async fn secure(
    worker: &Worker,
    acceptors: &Acceptors,
    stream: TcpStream,
    peer: SocketAddr,
) -> Option<Secured> {
    let shared = &worker.shared;
    let acceptor = acceptors.current(shared)?;
    let (handshake, gave_up) = worker.handshakes.begin(peer.ip());
    if gave_up {
        shared.telemetry.refused_by_limit(Refused::Handshakes);
    }
    let limit = shared.settings.timeouts.handshake;
    let accepted = tokio::select! {
        biased;
        accepted = tokio::time::timeout(limit, acceptor.accept(stream)) => accepted,
        () = handshake.given_up() => {
            tracing::debug!(%peer, "a TLS handshake is given up for a newer one");
            return None;
        }
    };
    drop(handshake);
    let Ok(accepted) = accepted else {
        tracing::debug!(%peer, ?limit, "no TLS handshake in time");
        return None;
    };
    match accepted {
        Ok(stream) => identify(shared, stream, peer),
        Err(error) => {
            // A port scan or a health check that says nothing is no refusal.
            if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
                refused(shared, refusal_of_io(&error), peer, &error);
            }
            None
        }
    }
}

fn identify(shared: &Shared, stream: TlsStream<TcpStream>, peer: SocketAddr) -> Option<Secured> {
    let connection = stream.get_ref().1;
    let chain = connection.peer_certificates().unwrap_or_default();
    let certificate = chain.first()?.clone().into_owned();
    let requests = match connection.alpn_protocol() {
        Some(protocol) if protocol == ALPN_WEFT => true,
        Some(protocol) if protocol == ALPN_HBONE => false,
        _ => {
            let error = io::Error::other(rustls::Error::NoApplicationProtocol);
            refused(shared, RefusalReason::Incompatible, peer, &error);
            return None;
        }
    };
    match peer_id(chain) {
        Ok(id) => Some(Secured { id, certificate, requests, stream }),
        // The verifier has checked the same; this is the place where the id is read.
        Err(invalid) => {
            refused(shared, RefusalReason::InvalidSvid, peer, &io::Error::other(invalid));
            None
        }
    }
}

fn refused(shared: &Shared, reason: RefusalReason, peer: SocketAddr, error: &io::Error) {
    shared.telemetry.handshake_refused(Reporter::Destination, reason, peer, &chain(error));
}

/// Sanitize and set: what the caller's side wrote is replaced by what TLS proved.
fn xfcc(own: Option<&SpiffeId>, secured: &Secured) -> Option<HeaderValue> {
    let hash = hex::encode(Sha256::digest(&secured.certificate));
    let by = own.map(|own| format!("By={own};")).unwrap_or_default();
    HeaderValue::from_str(&format!("{by}Hash={hash};URI={}", secured.id)).ok()
}

/// The TLS settings for the current credentials; made anew when these change.
#[derive(Default)]
struct Acceptors(RefCell<Option<(u64, TlsAcceptor)>>);

impl Acceptors {
    fn current(&self, shared: &Shared) -> Option<TlsAcceptor> {
        let generation = shared.svids.generation();
        if let Some((made, acceptor)) = &*self.0.borrow()
            && *made == generation
        {
            return Some(acceptor.clone());
        }
        let Some(credentials) = shared.svids.current() else {
            tracing::debug!("a proxy connects, but there is no certificate yet");
            return None;
        };
        match credentials.server_config(&[ALPN_WEFT, ALPN_HBONE], ClientAuth::Required) {
            Ok(config) => {
                let acceptor = TlsAcceptor::from(config);
                *self.0.borrow_mut() = Some((credentials.generation, acceptor.clone()));
                Some(acceptor)
            }
            Err(error) => {
                tracing::error!(error = %chain(&error), "these credentials can't be served");
                None
            }
        }
    }
}
