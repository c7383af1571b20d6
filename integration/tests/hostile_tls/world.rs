//! The mesh under attack: `web` calls `api`, whose application records; and the keys of the mesh's CA, for the worst case.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weft_integration::{Mesh, MeshPlan, Proxy, ProxyPlan, eventually};

use crate::certificates::Ca;
use crate::recorder::Recorder;

pub(crate) struct World {
    pub(crate) api: Proxy,
    pub(crate) web: Proxy,
    pub(crate) app: Recorder,
    pub(crate) ca: Ca,
    _mesh: Mesh,
}

impl World {
    /// With `more` in the settings of `api`'s proxy.
    pub(crate) async fn start(more: &str) -> Result<Self> {
        Self::with(more, "").await
    }

    /// With more in the settings of `api`'s proxy, and of `web`'s.
    pub(crate) async fn with(of_api: &str, of_web: &str) -> Result<Self> {
        let mesh = Mesh::start(MeshPlan::default()).await?;
        let app = Recorder::start().await?;
        let port = app.address.port();
        let api = mesh.proxy(ProxyPlan::new("api", "api").inbound(port, "http1").more(of_api)).await?;
        mesh.register("api.yaml", &api.object("api", "v1", port, "http1"))?;
        let web = mesh.proxy(ProxyPlan::new("web", "web").upstream("api").more(of_web)).await?;
        api.ready().await?;
        web.ready().await?;
        let world = Self { ca: Ca::of(&mesh)?, api, web, app, _mesh: mesh };
        eventually("a good call is answered", async || world.good().await.map(Some)).await?;
        world.app.take();
        Ok(world)
    }

    /// One good request by `web`.
    pub(crate) async fn good(&self) -> Result<()> {
        good(self.web.upstream("api")).await
    }

    /// Only so many good requests have reached the application since it was asked last.
    pub(crate) fn only_good(&self, count: usize) -> Result<()> {
        let heads = self.app.take();
        let good = heads.iter().filter(|head| head.starts_with("GET /good HTTP/1.1\r\n")).count();
        anyhow::ensure!(
            good == count && heads.len() == count,
            "expected {count} good ones at the application: {heads:?}"
        );
        Ok(())
    }
}

/// One good request on a connection of its own, answered in time.
pub(crate) async fn good(address: std::net::SocketAddr) -> Result<()> {
    let (head, _) = asked(address, "/good").await?;
    anyhow::ensure!(head.starts_with("HTTP/1.1 200 "), "{head}");
    Ok(())
}

/// The head and the body of a GET on a connection of its own.
pub(crate) async fn asked(address: std::net::SocketAddr, path: &str) -> Result<(String, String)> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await?;
        let said = String::from_utf8_lossy(&said).into_owned();
        let (head, body) = said.split_once("\r\n\r\n").with_context(|| format!("no head: {said:?}"))?;
        anyhow::Ok((head.to_owned(), body.to_owned()))
    };
    tokio::time::timeout(Duration::from_secs(10), asked).await.context("no answer in time")?
}

/// How many handshakes a proxy has refused as `reporter`, for `reason`.
pub(crate) async fn refused(proxy: &Proxy, reporter: &str, reason: &str) -> Result<f64> {
    let labels = [format!("reporter=\"{reporter}\""), format!("reason=\"{reason}\"")];
    proxy.metric("weft_handshakes_refused_total", &labels.each_ref().map(String::as_str)).await
}
