//! Two callees with three applications each, one caller, one control plane; certificates that live for seconds.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use weft_integration::{App, AppKind, Mesh, MeshPlan, PATIENCE, Proxy, ProxyPlan, eventually, get};

use super::watch::{Holdings, Kernel};

/// Certificates are renewed at half of it.
const LEAF: &str = "[ca]\nleaf_ttl = \"12s\"\n";
/// Short, so that what is unused is gone when the load is over.
const SHORT: &str = "[timeouts]\npool_idle = \"2s\"\nidle = \"5s\"\n";

/// After load: pooled connections are looked at every 5 s.
const SETTLE: Duration = Duration::from_secs(8);
const LOOK: Duration = Duration::from_secs(1);

/// All of it.
pub(crate) struct World {
    pub(crate) mesh: Mesh,
    pub(crate) apps: Vec<App>,
    pub(crate) callees: Vec<Proxy>,
    pub(crate) caller: Proxy,
}

/// Where the load goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entries {
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
    pub(crate) tcp: SocketAddr,
    /// Routed by `Host`.
    pub(crate) any: SocketAddr,
}

impl World {
    pub(crate) async fn start() -> Result<Self> {
        let mesh = Mesh::start(MeshPlan { more: LEAF.to_owned(), ..MeshPlan::default() }).await?;
        let apps = vec![
            mesh.http_app("api", "v1").await?,
            mesh.grpc_app("greeter").await?,
            mesh.tcp_app("store").await?,
        ];
        let mut callees = Vec::new();
        for n in 1..=2 {
            let plan = apps.iter().fold(ProxyPlan::new(&format!("callee-{n}"), "api"), |plan, app| {
                plan.inbound(app.address.port(), protocol(app))
            });
            callees.push(mesh.proxy(plan.quiet().more(SHORT)).await?);
        }
        let plan = ProxyPlan::new("caller", "web").upstream("api").upstream("greeter").upstream("store");
        let caller = mesh.proxy(plan.http_port().quiet().more(SHORT)).await?;
        let world = Self { mesh, apps, callees, caller };
        for callee in 0..2 {
            world.register(callee)?;
        }
        for proxy in world.callees.iter().chain([&world.caller]) {
            proxy.ready().await?;
        }
        Ok(world)
    }

    /// The file with all that one callee serves.
    pub(crate) fn file(callee: usize) -> String {
        format!("callee-{callee}.yaml")
    }

    /// The callee's workloads come into the registry.
    pub(crate) fn register(&self, callee: usize) -> Result<()> {
        let objects: Vec<String> =
            self.apps.iter().map(|app| self.object(callee, app, &app.name)).collect::<Result<_>>()?;
        self.mesh.register(&Self::file(callee), &objects.join("---\n"))
    }

    /// The HTTP application under another service's name.
    pub(crate) fn object(&self, callee: usize, app: &App, service: &str) -> Result<String> {
        let tunnel = self.callees.get(callee).context("two callees")?.tunnel.port();
        Ok(format!(
            "kind: Workload\nname: {service}-{callee}\nservice: {service}\nidentity: api\naddresses: [127.0.0.1]\nhealth: healthy\n\
             tunnel: {tunnel}\nports: [{{name: main, number: {}, protocol: {}}}]\n",
            app.address.port(),
            protocol(app)
        ))
    }

    pub(crate) fn entries(&self) -> Entries {
        Entries {
            http: self.caller.upstream("api"),
            grpc: self.caller.upstream("greeter"),
            tcp: self.caller.upstream("store"),
            any: self.caller.http(),
        }
    }

    /// One request of a kind whose connections stay: what is made once is there before the first count.
    pub(crate) async fn touch_everything(&self) -> Result<()> {
        eventually("both callees are known", async || {
            Ok((self.caller.endpoints("default/api").await?.len() == 2).then_some(()))
        })
        .await?;
        self.serves().await
    }

    /// A request gets its answer.
    pub(crate) async fn serves(&self) -> Result<()> {
        get(self.caller.upstream("api"), "/").await.map(drop)
    }

    /// What each process holds now.
    pub(crate) async fn held(&mut self) -> Result<Holdings> {
        let pid = self.mesh.control()?.pid()?;
        // Looked at before the question for metrics, whose connection is a descriptor too.
        let (control, mesh) = (Kernel::of(pid)?, &self.mesh);
        let page = mesh.admin("/metrics").await?;
        let mut all = BTreeMap::from([("control", control.with(page.as_str().unwrap_or_default())?)]);
        let proxies = self.callees.iter().chain([&self.caller]);
        for (name, proxy) in ["callee-1", "callee-2", "caller"].into_iter().zip(proxies) {
            let kernel = Kernel::of(proxy.process.pid()?)?;
            all.insert(name, kernel.with(&proxy.admin("/metrics").await?.1)?);
        }
        Ok(all)
    }

    /// What is held without load: what two looks in a row agree on. A renewal in progress is no rest.
    pub(crate) async fn at_rest(&mut self) -> Result<Holdings> {
        let start = Instant::now();
        // Longer than pooled connections are kept and looked at.
        tokio::time::sleep(SETTLE).await;
        let mut last = self.held().await?;
        while start.elapsed() < PATIENCE * 2 {
            tokio::time::sleep(LOOK).await;
            let now = self.held().await?;
            if now.iter().all(|(name, is)| last.get(name).is_some_and(|was| was.same(is))) {
                return Ok(now);
            }
            last = now;
        }
        bail!("it does not come to rest: {last:?}")
    }

    /// Waits until each process has held no more than before at some moment: what is leaked never comes back.
    pub(crate) async fn is_as_before(&mut self, before: &Holdings) -> Result<()> {
        let (start, mut left) = (Instant::now(), before.clone());
        loop {
            let now = self.held().await?;
            left.retain(|name, was| now.get(name).is_none_or(|is| !is.left_nothing(was)));
            if left.is_empty() {
                return Ok(());
            }
            let more: Vec<String> = left
                .iter()
                .filter_map(|(name, was)| {
                    Some(format!("{name}: {} before, {} now", was.counts(), now.get(name)?.counts()))
                })
                .collect();
            ensure!(start.elapsed() < PATIENCE * 2, "left behind: {}", more.join("; "));
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn protocol(app: &App) -> &'static str {
    match app.kind {
        AppKind::Http => "http1",
        AppKind::Grpc => "grpc",
        AppKind::Tcp => "tcp",
    }
}
