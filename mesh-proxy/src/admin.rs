//! The admin endpoint: HTTP/1.1 on the shell's own thread, so that a busy data path can't silence it, nor it the data path.
//!
//! It has no access control: it listens on loopback unless the settings say otherwise, and shows no key and no token.
//! What can be asked is in `respond`; what is shown is computed there and then.

mod dump;
mod readiness;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::identity::IdentityStatus;
use crate::logging::LogLevel;
use crate::mesh::MeshStatus;
use crate::shared::{Phase, Shared};
use crate::telemetry::Observed;
use readiness::Readiness;

/// What the endpoint shows and moves.
pub(crate) struct Admin {
    pub(crate) shared: Arc<Shared>,
    pub(crate) instance: String,
    pub(crate) identity: watch::Receiver<IdentityStatus>,
    pub(crate) mesh: watch::Receiver<MeshStatus>,
    pub(crate) log: LogLevel,
    /// Asks the shell to drain.
    pub(crate) drain: Arc<Notify>,
}

/// Open admin connections: enough for people and scrapers, not enough to matter. With one more the oldest is closed:
/// connections that say nothing must not keep a scraper out.
const CONNECTIONS: usize = 64;
/// For a request's head; an idle connection is closed after it too.
const PATIENCE: Duration = Duration::from_secs(30);

/// Serves for ever.
pub(crate) async fn serve(admin: Arc<Admin>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let admin = admin.clone();
                open.retain(|connection| !connection.is_finished());
                if open.len() >= CONNECTIONS
                    && let Some(oldest) = open.pop_front()
                {
                    oldest.abort();
                }
                open.push_back(connections.spawn(async move {
                    let service = service_fn(|request| {
                        let response = respond(&admin, &request);
                        async move { Ok::<_, Infallible>(response) }
                    });
                    let served = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(PATIENCE)
                        .serve_connection(TokioIo::new(stream), service);
                    // A client that goes away is its own business.
                    _ = served.await;
                }));
            }
            Err(error) => {
                // Out of file descriptors: waiting is all that helps.
                tracing::warn!("admin: accepting a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

type Reply = Response<Full<Bytes>>;

const USAGE: &str =
    "GET /ready\nGET /metrics\nGET /config_dump\nGET /log_level\nPUT /log_level?level=FILTER\nPOST /drain\n";

fn respond(admin: &Admin, request: &Request<Incoming>) -> Reply {
    let method = request.method();
    match (request.uri().path(), method) {
        ("/", &Method::GET) => text(StatusCode::OK, USAGE),
        ("/ready", &Method::GET) => ready(admin),
        ("/metrics", &Method::GET) => metrics(admin),
        ("/config_dump", &Method::GET) => json(&dump::dump(admin, SystemTime::now())),
        ("/log_level", &Method::GET) => text(StatusCode::OK, format!("{}\n", admin.log.current())),
        ("/log_level", &Method::PUT | &Method::POST) => set_log_level(admin, request.uri().query()),
        ("/drain", &Method::POST) => {
            admin.drain.notify_one();
            text(StatusCode::ACCEPTED, "draining\n")
        }
        ("/" | "/ready" | "/metrics" | "/config_dump", _) => not_allowed("GET"),
        ("/log_level", _) => not_allowed("GET, PUT"),
        ("/drain", _) => not_allowed("POST"),
        _ => text(StatusCode::NOT_FOUND, format!("there is no such path here; there are:\n{USAGE}")),
    }
}

fn ready(admin: &Admin) -> Reply {
    let Readiness { missing, undecided } = readiness::look(admin, SystemTime::now());
    let (status, first) = match missing.is_empty() {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready:"),
    };
    let lines: String = missing.iter().chain(&undecided).map(|line| format!("- {line}\n")).collect();
    text(status, format!("{first}\n{lines}"))
}

fn metrics(admin: &Admin) -> Reply {
    let body = admin.shared.telemetry.exposition(&observed(admin, SystemTime::now()));
    reply(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", body)
}

fn observed(admin: &Admin, now: SystemTime) -> Observed {
    let config = admin.shared.config.load();
    let credentials = admin.shared.svids.current();
    let left = credentials.map(|it| it.svid.not_after().duration_since(now).unwrap_or_default());
    Observed {
        svid_left: left,
        control_connected: admin.mesh.borrow().connected,
        config_revision: config.revision,
        config_services: config.services.len(),
        services_on_demand: admin.shared.demand.on_demand(),
        ready: readiness::look(admin, now).missing.is_empty(),
        draining: admin.shared.drain.phase() != Phase::Serving,
        svid_failures: admin.identity.borrow().failures,
        overload: admin.shared.overload.pressure().number(),
        memory: admin.shared.overload.held(),
        memory_limit: admin.shared.overload.limit,
        version: env!("CARGO_PKG_VERSION"),
        tasks: admin.shared.telemetry.tasks(),
    }
}

fn set_log_level(admin: &Admin, query: Option<&str>) -> Reply {
    let Some(filter) = query.and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("level=")))
    else {
        return text(
            StatusCode::BAD_REQUEST,
            "expected ?level=FILTER, as in ?level=debug or ?level=info,weft_proxy=trace\n",
        );
    };
    // The two characters of a filter that some clients encode.
    let filter = filter.replace("%2C", ",").replace("%2c", ",").replace("%3D", "=").replace("%3d", "=");
    match admin.log.set(&filter) {
        Ok(()) => text(StatusCode::OK, format!("{filter}\n")),
        Err(error) => text(StatusCode::BAD_REQUEST, format!("{filter:?} is not a log filter: {error}\n")),
    }
}

fn json(value: &serde_json::Value) -> Reply {
    reply(StatusCode::OK, "application/json", format!("{value:#}\n"))
}

fn text(status: StatusCode, body: impl Into<String>) -> Reply {
    reply(status, "text/plain; charset=utf-8", body.into())
}

fn not_allowed(allowed: &'static str) -> Reply {
    let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, format!("only {allowed} here\n"));
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    reply
}

fn reply(status: StatusCode, content_type: &'static str, body: String) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

#[cfg(test)]
mod tests;
