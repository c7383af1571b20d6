//! The mesh that these tests break: `web` calls `api`, and a look at every program from outside.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::process::Command;
use weft_integration::{App, Load, Mesh, MeshPlan, Process, Proxy, ProxyPlan, eventually};

/// `web` calls `api`, which has an instance of each version.
pub(crate) struct Shop {
    pub(crate) web: Proxy,
    pub(crate) api: Vec<Proxy>,
    pub(crate) apps: Vec<App>,
    pub(crate) mesh: Mesh,
}

/// A shop with these versions of `api`, which speaks `protocol`; `more` is added to every proxy's settings.
pub(crate) async fn shop_with(plan: MeshPlan, versions: &[&str], protocol: &str, more: &str) -> Result<Shop> {
    let mesh = Mesh::start(plan).await?;
    let (mut apps, mut api) = (Vec::new(), Vec::new());
    for version in versions {
        let app = mesh.http_app("api", version).await?;
        let name = format!("api-{version}");
        let plan = ProxyPlan::new(&name, "api").inbound(app.address.port(), protocol).more(more);
        let proxy = mesh.proxy(plan).await?;
        mesh.register(&format!("{name}.yaml"), &proxy.object("api", version, app.address.port(), protocol))?;
        proxy.ready().await?;
        api.push(proxy);
        apps.push(app);
    }
    let web = mesh.proxy(ProxyPlan::new("web", "web").upstream("api").more(more)).await?;
    web.ready().await?;
    knows(&web, versions.len()).await?;
    Ok(Shop { web, api, apps, mesh })
}

/// A shop with two versions that speak HTTP/1.1.
pub(crate) async fn shop() -> Result<Shop> {
    shop_with(MeshPlan::default(), &["v1", "v2"], "http1", "").await
}

impl Shop {
    /// Steady calls from `web` to `api`.
    pub(crate) fn load(&self) -> Load {
        Load::start(self.web.upstream("api"), "/", 4, 200)
    }

    /// The first instance's registry file and its content.
    pub(crate) fn object(&self) -> Result<(&'static str, String)> {
        let (app, proxy) = (self.apps.first().context("an app")?, self.api.first().context("a proxy")?);
        Ok(("api-v1.yaml", proxy.object("api", "v1", app.address.port(), "http1")))
    }
}

/// Waits until `web` has so many endpoints of `api`.
pub(crate) async fn knows(web: &Proxy, count: usize) -> Result<()> {
    eventually("web knows the endpoints of api", async || {
        let found = web.endpoints("default/api").await?.len();
        anyhow::ensure!(found == count, "web has {found} endpoints of api, not {count}");
        Ok(Some(()))
    })
    .await
}

/// Stops the load when it has made enough calls to say so: every one was answered.
pub(crate) async fn none_failed(load: Load, what: &str) -> Result<()> {
    eventually("the load has made calls", async || Ok((load.so_far().answered >= 100).then_some(()))).await?;
    let outcome = load.stop().await;
    println!("{what}: {} calls, {} failed", outcome.answered, outcome.failures.len());
    anyhow::ensure!(outcome.failures.is_empty(), "{what}: {:?}", outcome.failures.first());
    Ok(())
}

/// Long enough for the load to meet what has just happened.
pub(crate) async fn a_while() {
    tokio::time::sleep(Duration::from_millis(500)).await;
}

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a program to its end.
pub(crate) async fn run(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Ended> {
    let mut command = Command::new(Process::program(program)?);
    command.args(arguments).envs(environment.iter().copied()).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(20), command.output());
    let output = output.await.with_context(|| format!("{program} {arguments:?} goes on and on"))??;
    Ok(Ended {
        code: output.status.code(),
        out: String::from_utf8(output.stdout)?,
        err: String::from_utf8(output.stderr)?,
    })
}

/// `weft` against this mesh, whatever comes of it.
pub(crate) async fn weft(mesh: &Mesh, arguments: &[&str]) -> Result<Ended> {
    let socket = mesh.socket().display().to_string();
    run("weft", &[&["--control", &socket], arguments].concat(), &[]).await
}

/// The first registry in `weft status -o json`.
pub(crate) async fn registry_status(mesh: &Mesh) -> Result<Value> {
    let said: Value = serde_json::from_str(&mesh.weft(&["status", "-o", "json"]).await?)?;
    Ok(said["registries"][0].clone())
}
