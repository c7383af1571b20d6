//! The health port: what a kubelet, a scraper or another supervisor may ask of this host without a certificate.
//!
//! Unlike the admin endpoint it may be reached from elsewhere, so it only reads: nothing can be changed, no configuration is
//! shown, and of the application only what the settings name can be asked (`probes.rs`). How much strangers can make it work is
//! bounded: connections, one run of each probe at a time, and one page of metrics for all who ask at about the same time.

mod ask;
mod grpc;
mod probes;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::admin::{self, Admin};
use crate::shell_http::{self, Bounds, Reply, not_allowed, text};
use probes::{Answer, Probes};

/// A kubelet opens a connection for each probe; some scrapers; and strangers.
const BOUNDS: Bounds = Bounds { name: "health", places: 256, patience: Duration::from_secs(10) };
/// For so long a page of metrics is new.
const FRESH: Duration = Duration::from_millis(250);

/// What the port shows.
struct Health {
    admin: Arc<Admin>,
    probes: Probes,
    /// The last page of metrics.
    page: Mutex<Option<(Instant, Reply)>>,
}

/// Serves for ever.
pub(crate) async fn serve(admin: Arc<Admin>, listener: TcpListener) {
    let probes = Probes::new(&admin.shared.settings.health.probe);
    let health = Arc::new(Health { admin, probes, page: Mutex::default() });
    let answer = move |request: Request<Incoming>, local: std::net::SocketAddr| {
        let health = health.clone();
        // The other end may be written as IPv4 within IPv6; the application listens on IPv4 then.
        async move { health.respond(request.method(), request.uri().path(), local.ip().to_canonical()).await }
    };
    shell_http::serve(BOUNDS, listener, answer).await;
}

const USAGE: &str = "GET /ready\nGET /live\nGET /metrics\nGET /probe/NAME\n";

impl Health {
    async fn respond(&self, method: &Method, path: &str, here: std::net::IpAddr) -> Reply {
        let probe = path.strip_prefix("/probe/").and_then(|name| self.probes.find(name));
        let known = matches!(path, "/" | "/ready" | "/live" | "/metrics") || probe.is_some();
        match (path, probe) {
            _ if !known => {
                text(StatusCode::NOT_FOUND, format!("there is no such path here; there are:\n{USAGE}"))
            }
            _ if method != Method::GET => not_allowed("GET"),
            ("/ready", _) => admin::ready(&self.admin),
            ("/live", _) => text(StatusCode::OK, "live\n"),
            ("/metrics", _) => self.metrics(Instant::now()),
            (_, Some(probe)) => reply_of(probe.ask(here).await),
            _ => text(StatusCode::OK, USAGE),
        }
    }

    fn metrics(&self, now: Instant) -> Reply {
        let mut page = self.page.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, reply)) = page.as_ref().filter(|(at, _)| now.duration_since(*at) < FRESH) {
            return reply.clone();
        }
        let reply = admin::metrics(&self.admin);
        *page = Some((now, reply.clone()));
        reply
    }
}

/// The application's status and nothing else of its answer: this port has no access control.
fn reply_of(answer: Answer) -> Reply {
    match answer {
        // A success as it is, and without a body, which some of them must not have.
        Answer::Healthy(status) => {
            let mut reply = Reply::new(Bytes::new().into());
            *reply.status_mut() = status;
            reply
        }
        Answer::Unhealthy(status, why) => text(status, format!("{why}\n")),
    }
}

#[cfg(test)]
mod tests;
