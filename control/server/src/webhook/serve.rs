//! Connections and requests of the webhook's port.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use weft_identity::RootPin;
use weft_injector::{InjectorSettings, MAX_REVIEW_BYTES, Reviewed, Verdict, review};

use super::certificate::Certificate;
use crate::admin::{self, Admin};
use crate::events::Teller;

/// The API server keeps one or two connections; probes and strangers come and go.
const MAX_CONNECTIONS: usize = 256;
/// For the TLS handshake, and for a request from its first byte. The API server gives up after 10 s by default.
const PATIENCE: Duration = Duration::from_secs(10);

/// What answers are made with.
pub(super) struct Port {
    pub(super) injector: InjectorSettings,
    pub(super) admin: Arc<Admin>,
    pub(super) teller: Teller,
}

/// Accepts for ever. What is in progress ends with it.
pub(super) async fn serve(listener: TcpListener, certificate: &Arc<Certificate>, port: Port) {
    let resolver: Arc<dyn rustls::server::ResolvesServerCert> = certificate.clone();
    let mut config = rustls::ServerConfig::builder().with_no_client_auth().with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let port = Arc::new(port);
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => _ = connections.spawn(connection(stream, acceptor.clone(), port.clone())),
            Err(error) => {
                tracing::warn!(%error, "accepting a connection to the webhook");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, port: Arc<Port>) {
    let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await else { return };
    let service = service_fn(move |request| {
        let port = port.clone();
        async move { Ok::<_, Infallible>(answer(&port, request).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_headers(64);
    // The caller went away, or took too long; there is nobody to tell.
    _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(port: &Port, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    match (&head.method, head.uri.path()) {
        (&Method::POST, "/inject") => inject(port, body).await,
        (&Method::GET | &Method::HEAD, path @ ("/ready" | "/metrics")) => admin::read_only(&port.admin, path),
        (&Method::GET | &Method::HEAD, "/live") => text(StatusCode::OK, "alive\n"),
        _ => text(
            StatusCode::NOT_FOUND,
            "POST /inject takes AdmissionReviews; GET /ready, /live and /metrics\n",
        ),
    }
}

async fn inject(port: &Port, body: Incoming) -> Response<Full<Bytes>> {
    let gathered = tokio::time::timeout(PATIENCE, Limited::new(body, MAX_REVIEW_BYTES).collect()).await;
    let body = match gathered {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return text(StatusCode::PAYLOAD_TOO_LARGE, "the review is too large\n");
        }
        Ok(Err(_)) | Err(_) => return text(StatusCode::BAD_REQUEST, "the review could not be read\n"),
    };
    let began = Instant::now();
    let settings = port.settings();
    let counters = &port.admin.counters;
    match review(&body, &settings) {
        Ok(reviewed) => {
            counters.injecting.observe(began.elapsed());
            counters.injections.add(note(&reviewed));
            port.teller.tell(&reviewed);
            let mut response = Response::new(Full::new(reviewed.body.into()));
            let json = http::HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
            response
        }
        Err(bad) => {
            counters.injections.add("unreadable");
            tracing::warn!("a request to the webhook is no review: {bad}");
            text(StatusCode::BAD_REQUEST, &format!("{bad}\n"))
        }
    }
}

impl Port {
    /// With the pins of the roots of now, where the settings name none.
    fn settings(&self) -> InjectorSettings {
        let mut settings = self.injector.clone();
        if settings.root_sha256.is_empty() {
            let roots = self.admin.authority.bundle().roots;
            settings.root_sha256 = roots.iter().map(|root| RootPin::of(root).to_string()).collect();
        }
        settings
    }
}

/// Logs what somebody may ask about, and says how it is counted.
fn note(reviewed: &Reviewed) -> &'static str {
    let Reviewed { namespace, pod, verdict, .. } = reviewed;
    match verdict {
        Verdict::Injected => {
            tracing::debug!(namespace, pod, "injected");
            "injected"
        }
        Verdict::Skipped(skip) => {
            if skip.is_surprise() {
                tracing::warn!(namespace, pod, "not injected: {skip}");
            }
            "skipped"
        }
        Verdict::NotAPod => "not_a_pod",
        Verdict::Refused(why) => {
            tracing::warn!(namespace, pod, "refused: {why}");
            "refused"
        }
    }
}

fn text(status: StatusCode, words: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(words.as_bytes())));
    *response.status_mut() = status;
    response
}
