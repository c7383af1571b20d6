//! A mesh with one caller's proxy and two callees, and the two ways in: as a local application in plaintext, and as
//! another proxy over mTLS.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use rustls::ClientConfig;
use weft_identity::{ALPN_WEFT, Credentials, Svid, TrustBundle, TrustBundles};
use weft_integration::{Mesh, MeshPlan, Proxy, ProxyPlan, eventually, http1};

use crate::backend::{self, Seen};
use crate::wire::Raw;

/// `web` calls `api` (HTTP/1 behind its proxy) and `api2` (HTTP/2).
pub(crate) struct World {
    _mesh: Mesh,
    pub(crate) web: Proxy,
    pub(crate) api: Proxy,
    _api2: Proxy,
    pub(crate) seen: Seen,
    pub(crate) seen2: Seen,
    port: u16,
    tls: Arc<ClientConfig>,
}

/// A way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// To `web`'s listener for `api`, in plaintext.
    Upstream,
    /// To `api`'s tunnel port, with `web`'s certificate.
    Tunnel,
    /// To `web`'s listener for `api2`, whose application speaks HTTP/2 itself.
    Http2,
}

impl World {
    /// `more` is TOML for `web`'s proxy.
    pub(crate) async fn start(more: &str) -> Result<Self> {
        let mesh = Mesh::start(MeshPlan::default()).await?;
        let (app, seen) = backend::http1().await?;
        let (app2, seen2) = backend::http2().await?;
        let api = callee(&mesh, "api", app, "http1").await?;
        let api2 = callee(&mesh, "api2", app2, "http2").await?;
        let plan = ProxyPlan::new("web", "web").upstream("api").upstream("api2").more(more);
        let web = mesh.proxy(plan).await?;
        web.ready().await?;
        let tls = client_config(&mesh)?;
        let world = Self { _mesh: mesh, web, api, _api2: api2, seen, seen2, port: app.port(), tls };
        eventually("a first request is answered", async || world.good().await.map(Some)).await?;
        Ok(world)
    }

    /// A connection.
    pub(crate) async fn enter(&self, entrance: Entrance) -> Result<Raw> {
        match entrance {
            Entrance::Upstream => Raw::plain(self.web.upstream("api")).await,
            Entrance::Http2 => Raw::plain(self.web.upstream("api2")).await,
            Entrance::Tunnel => Raw::tls(self.api.tunnel, self.tls.clone()).await,
        }
    }

    /// Who is met there.
    pub(crate) fn proxy(&self, entrance: Entrance) -> &Proxy {
        match entrance {
            Entrance::Upstream | Entrance::Http2 => &self.web,
            Entrance::Tunnel => &self.api,
        }
    }

    /// What the application behind it saw.
    pub(crate) fn seen(&self, entrance: Entrance) -> Vec<String> {
        match entrance {
            Entrance::Upstream | Entrance::Tunnel => self.seen.take(),
            Entrance::Http2 => self.seen2.take(),
        }
    }

    /// The value of `weft-port`, without which a proxy has no port to send a request to.
    pub(crate) fn port(&self) -> String {
        self.port.to_string()
    }

    /// One good request through both proxies.
    pub(crate) async fn good(&self) -> Result<()> {
        good(self.web.upstream("api")).await
    }

    /// All refusals of requests so far, by kind.
    pub(crate) async fn counts(&self, entrance: Entrance) -> Result<BTreeMap<String, f64>> {
        let (_, text) = self.proxy(entrance).admin("/metrics").await?;
        let lines =
            text.lines().filter_map(|line| line.strip_prefix("weft_malformed_requests_total{kind=\""));
        let parse =
            |line: &str| Some((line.split('"').next()?.to_owned(), line.rsplit(' ').next()?.parse().ok()?));
        Ok(lines.filter_map(parse).collect())
    }

    /// All refusals of requests of a kind (all: `""`).
    pub(crate) async fn refused(&self, entrance: Entrance, kind: &str) -> Result<f64> {
        let label = format!("kind=\"{kind}");
        self.proxy(entrance).metric("weft_malformed_requests_total", &[&label]).await
    }
}

/// A good request over a connection of its own.
pub(crate) async fn good(address: SocketAddr) -> Result<()> {
    let request = Request::get("/good").header("host", "api").body(Full::<Bytes>::default())?;
    let answer = async {
        let response = http1(address, request).await?;
        ensure!(response.status() == 200, "{}", response.status());
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(body == "ok", "{body:?}");
        Ok(())
    };
    tokio::time::timeout(Duration::from_secs(5), answer).await.context("no answer within 5 s")?
}

async fn callee(mesh: &Mesh, name: &str, app: SocketAddr, protocol: &str) -> Result<Proxy> {
    let proxy = mesh.proxy(ProxyPlan::new(name, name).inbound(app.port(), protocol)).await?;
    mesh.register(&format!("{name}.yaml"), &proxy.object(name, "v1", app.port(), protocol))?;
    proxy.ready().await?;
    Ok(proxy)
}

/// What `web` itself shows to `api`.
fn client_config(mesh: &Mesh) -> Result<Arc<ClientConfig>> {
    let state = mesh.path().join("web");
    let svid = Svid::from_pem(&std::fs::read_to_string(state.join("svid.pem"))?)?;
    let saved: BTreeMap<String, String> =
        serde_json::from_str(&std::fs::read_to_string(state.join("bundles.json"))?)?;
    let mut bundles = TrustBundles::default();
    for (domain, pem) in saved {
        bundles.insert(TrustBundle::from_pem(domain.parse()?, &pem)?);
    }
    let api = format!("spiffe://{}/ns/default/sa/api", Mesh::TRUST_DOMAIN).parse()?;
    Ok(Credentials::new(Arc::new(svid), Arc::new(bundles), 1).client_config(&api, &[ALPN_WEFT])?)
}

/// Kilobytes that a proxy has in memory.
pub(crate) fn memory(proxy: &Proxy) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.process.pid()?))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("it has a size")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
