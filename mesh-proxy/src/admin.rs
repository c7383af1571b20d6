//! The admin endpoint, for the people and programs of this host.
//!
//! It has no access control: it listens on loopback unless the settings say otherwise, and shows no key and no token.
//! What can be asked is in `respond`; what is shown is computed there and then.

mod dump;
mod readiness;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

use crate::identity::IdentityStatus;
use crate::logging::LogLevel;
use crate::mesh::MeshStatus;
use crate::shared::{Phase, Shared};
use crate::shell_http::{self, Bounds, Reply, not_allowed, reply, text};
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

/// Enough for people and scrapers, not enough to matter.
const BOUNDS: Bounds = Bounds { name: "admin", places: 64, patience: Duration::from_secs(30) };

/// Serves for ever.
pub(crate) async fn serve(admin: Arc<Admin>, listener: TcpListener) {
    let answer = move |request: Request<Incoming>, _| std::future::ready(respond(&admin, &request));
    shell_http::serve(BOUNDS, listener, answer).await;
}

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

/// Whether new work may be sent here, and what is missing.
pub(crate) fn ready(admin: &Admin) -> Reply {
    let Readiness { missing, undecided } = readiness::look(admin, SystemTime::now());
    let (status, first) = match missing.is_empty() {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready:"),
    };
    let lines: String = missing.iter().chain(&undecided).map(|line| format!("- {line}\n")).collect();
    text(status, format!("{first}\n{lines}"))
}

/// The metrics, for a scraper.
pub(crate) fn metrics(admin: &Admin) -> Reply {
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

#[cfg(test)]
pub(crate) mod tests;
