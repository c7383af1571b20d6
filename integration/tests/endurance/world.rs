//! What the tests share: `web` calls `api`, which has two instances, and `store`, which speaks TCP, all under load.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weft_integration::{
    App, Carrier, Mesh, MeshPlan, Proxy, ProxyPlan, Steady, Streams, Tally, eventually, figure,
};

/// Requests a second in each test.
pub(crate) const RATE: u32 = 500;

/// The mesh with its members.
pub(crate) struct Shop {
    pub(crate) web: Proxy,
    pub(crate) api: Vec<Proxy>,
    pub(crate) apps: Vec<App>,
    pub(crate) mesh: Mesh,
}

/// Which change is made to every proxy's plan.
pub(crate) type Change<'a> = &'a dyn Fn(ProxyPlan) -> ProxyPlan;

impl Shop {
    /// A shop in the file registry.
    pub(crate) async fn open(plan: MeshPlan) -> Result<Self> {
        Self::with(Mesh::start(plan).await?, &|plan| plan).await
    }

    /// The same in a mesh that runs, with a change to every proxy's plan.
    pub(crate) async fn with(mesh: Mesh, change: Change<'_>) -> Result<Self> {
        let (mut apps, mut api) = (Vec::new(), Vec::new());
        for version in ["v1", "v2"] {
            let app = mesh.http_app("api", version).await?;
            api.push(member(&mesh, &app, version, "http1", change).await?);
            apps.push(app);
        }
        let store = mesh.tcp_app("store").await?;
        api.push(member(&mesh, &store, "v1", "tcp", change).await?);
        apps.push(store);
        let shop = Self { web: web(&mesh, change).await?, api, apps, mesh };
        shop.knows(2).await?;
        Ok(shop)
    }

    /// Waits until `web` knows so many instances of `api`.
    pub(crate) async fn knows(&self, count: usize) -> Result<()> {
        knows(&self.web, count).await
    }

    /// All proxies.
    pub(crate) fn proxies(&self) -> impl Iterator<Item = &Proxy> {
        self.api.iter().chain([&self.web])
    }

    /// The registry file of instance `n`.
    pub(crate) fn object(&self, n: usize) -> Result<(String, String)> {
        let (app, proxy) = (self.apps.get(n).context("an app")?, self.api.get(n).context("a proxy")?);
        let version = format!("v{}", n + 1);
        Ok((format!("api-{version}.yaml"), proxy.object("api", &version, app.address.port(), "http1")))
    }
}

/// A caller of both services.
pub(crate) async fn web(mesh: &Mesh, change: Change<'_>) -> Result<Proxy> {
    let plan = ProxyPlan::new("web", "web").upstream("api").upstream("store").quiet();
    let web = mesh.proxy(change(plan)).await?;
    web.ready().await?;
    Ok(web)
}

/// A proxy for an application, ready and registered in the file registry.
pub(crate) async fn member(
    mesh: &Mesh,
    app: &App,
    version: &str,
    protocol: &str,
    change: Change<'_>,
) -> Result<Proxy> {
    let name = format!("{}-{version}", app.name);
    let plan = ProxyPlan::new(&name, &app.name).inbound(app.address.port(), protocol).quiet();
    let proxy = mesh.proxy(change(plan)).await?;
    mesh.register(&format!("{name}.yaml"), &proxy.object(&app.name, version, app.address.port(), protocol))?;
    proxy.ready().await?;
    Ok(proxy)
}

/// Waits until `web` has so many endpoints of `api`.
pub(crate) async fn knows(web: &Proxy, count: usize) -> Result<()> {
    eventually("web knows the endpoints of api", async || {
        let found = web.endpoints("default/api").await?.len();
        ensure!(found == count, "web has {found} endpoints of api, not {count}");
        Ok(Some(()))
    })
    .await
}

/// The generation of a proxy's certificate: 1 is the first.
pub(crate) async fn generation(proxy: &Proxy) -> Result<u64> {
    let dump: Value = serde_json::from_str(&proxy.admin("/config_dump").await?.1)?;
    dump["identity"]["generation"].as_u64().context("there is a generation")
}

/// Requests and streams through `web`.
pub(crate) struct Traffic {
    requests: Steady,
    streams: Streams,
}

impl Traffic {
    /// Starts it, and waits until it flows.
    pub(crate) async fn start(web: &Proxy) -> Result<Self> {
        Self::with_streams_of(web, None).await
    }

    /// The same with streams that end after so many messages and are opened anew.
    pub(crate) async fn with_streams_of(web: &Proxy, most: Option<u64>) -> Result<Self> {
        let (api, store): (SocketAddr, _) = (web.upstream("api"), web.upstream("store"));
        let kinds = [(Carrier::Upgrade, api), (Carrier::Http2, api), (Carrier::Tcp, store)];
        let traffic = Self { requests: Steady::start(api, "/", RATE), streams: Streams::start(&kinds, most) };
        eventually("the streams are open", async || {
            let tally = traffic.streams.so_far();
            ensure!(tally.broken.is_empty(), "{:?}", tally.broken);
            Ok((tally.opened >= 3 && tally.messages >= 9).then_some(()))
        })
        .await?;
        Ok(traffic)
    }

    /// How many requests were answered so far.
    pub(crate) fn answered(&self) -> u64 {
        self.requests.answered()
    }

    /// Waits until `count` more requests were answered: they have met what was done before.
    pub(crate) async fn meets(&self, count: u64) -> Result<()> {
        let from = self.answered();
        eventually("requests are answered", async || Ok((self.answered() >= from + count).then_some(())))
            .await
    }

    /// Stops it, prints the figure, and fails if a request or a stream did.
    pub(crate) async fn unharmed(self, name: &str, more: &str) -> Result<Tally> {
        let (requests, streams) = (self.requests.stop().await, self.streams.stop().await);
        let more = if more.is_empty() { String::new() } else { format!("; {more}") };
        figure(name, &format!("{}; {}{more}", requests.words(), streams.words()));
        let failures: Vec<_> = requests.failures().take(5).collect();
        ensure!(failures.is_empty(), "{name}: {failures:?}");
        ensure!(streams.broken.is_empty(), "{name}: {:?}", streams.broken);
        ensure!(requests.answered > u64::from(RATE), "{name}: only {} requests", requests.answered);
        Ok(requests)
    }
}

/// Time that passes because the fault lasts so long, not to wait for something.
pub(crate) async fn lasts(time: Duration) {
    tokio::time::sleep(time).await;
}
