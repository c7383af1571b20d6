//! What the tests share: a mesh with a real Consul as its second registry, and members registered there.
//!
//! A test runs once for each version of Consul that is to be had, all versions at once: most of the time is waiting.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use serde_json::Value;
use weft_integration::{
    App, Load, Mesh, MeshPlan, Outcome, Proxy, ProxyPlan, eventually, ran_on, skipped_on,
};
use weft_registry_consul::testkit::{ConsulOptions, ConsulServer, ConsulVersion};

/// Both versions.
pub(crate) const BOTH: &[ConsulVersion] = &ConsulVersion::ALL;
/// The newest alone, for what is the same in both.
pub(crate) const NEWEST: &[ConsulVersion] = &[ConsulVersion::V1_20_5];

/// Runs a test on real Consuls, and reports on which.
pub(crate) async fn on_consul(
    versions: &[ConsulVersion],
    options: ConsulOptions,
    what: &str,
    test: impl AsyncFn(ConsulServer) -> Result<()>,
) -> Result<()> {
    weft_identity::install_crypto_provider();
    let runs = versions.iter().map(async |version| {
        let name = format!("Consul {}", version.as_str());
        let Some(server) = ConsulServer::start(*version, options.clone()).await? else {
            skipped_on(&name, what);
            return Ok(());
        };
        test(server).await.with_context(|| format!("on {name}"))?;
        ran_on(&name, what);
        anyhow::Ok(())
    });
    try_join_all(runs).await.map(drop)
}

/// An application with its proxy.
pub(crate) struct Member {
    /// The application.
    pub(crate) app: App,
    /// Its version.
    pub(crate) version: String,
    /// Its proxy.
    pub(crate) proxy: Proxy,
}

impl Member {
    /// It as Consul's HTTP API takes it.
    pub(crate) fn definition(&self) -> Value {
        self.proxy.definition(&self.app.name, &self.version, self.app.address.port(), "http1")
    }

    /// It as an object of the file registry.
    pub(crate) fn object(&self) -> String {
        self.proxy.object(&self.app.name, &self.version, self.app.address.port(), "http1")
    }

    /// Its instance id, where it is registered in Consul.
    pub(crate) fn id(&self) -> String {
        format!("consul/dc1/node-1/{}-{}", self.app.name, self.version)
    }
}

/// A mesh over files and Consul.
pub(crate) struct World {
    /// The mesh, whose control plane reads both.
    pub(crate) mesh: Mesh,
    /// The Consul.
    pub(crate) consul: ConsulServer,
}

impl World {
    /// Starts the control plane with `consul` as registry `consul/dc1`.
    ///
    /// `keys` are further keys of `[registry.consul]`, `tables` what follows them.
    pub(crate) async fn start(consul: ConsulServer, keys: &str, tables: &str) -> Result<Self> {
        let address = match keys.contains("address =") {
            true => String::new(),
            false => format!("address = \"{}\"\n", consul.address()),
        };
        let more = format!("[[registry]]\nid = \"consul/dc1\"\n[registry.consul]\n{address}{keys}\n{tables}");
        let mesh = Mesh::start(MeshPlan { more, ..MeshPlan::default() }).await?;
        Ok(Self { mesh, consul })
    }

    /// An application and its ready proxy, registered nowhere yet.
    pub(crate) async fn member(&self, service: &str, version: &str) -> Result<Member> {
        self.member_with(service, version, |plan| plan).await
    }

    /// Like [`Self::member`], with a say in the proxy's plan.
    pub(crate) async fn member_with(
        &self,
        service: &str,
        version: &str,
        change: impl FnOnce(ProxyPlan) -> ProxyPlan,
    ) -> Result<Member> {
        let app = self.mesh.http_app(service, version).await?;
        let plan =
            ProxyPlan::new(&format!("{service}-{version}"), service).inbound(app.address.port(), "http1");
        let proxy = self.mesh.proxy(change(plan)).await?;
        proxy.ready().await?;
        Ok(Member { app, version: version.to_owned(), proxy })
    }

    /// A proxy that only calls `api`.
    pub(crate) async fn web(&self) -> Result<Proxy> {
        let web = self.mesh.proxy(ProxyPlan::new("web", "web").upstream("api")).await?;
        web.ready().await?;
        Ok(web)
    }

    /// Registers in Consul.
    pub(crate) async fn register(&self, definition: &Value) -> Result<()> {
        self.consul.put("agent/service/register", definition).await?;
        Ok(())
    }

    /// Two instances of `api` in Consul and a caller that knows both.
    pub(crate) async fn shop(&self) -> Result<(Vec<Member>, Proxy)> {
        let members = vec![self.member("api", "v1").await?, self.member("api", "v2").await?];
        for member in &members {
            self.register(&member.definition()).await?;
        }
        let web = self.web().await?;
        self.web_knows(&web, 2).await?;
        Ok((members, web))
    }

    /// Waits until a caller knows this many instances of `api`.
    pub(crate) async fn web_knows(&self, web: &Proxy, count: usize) -> Result<()> {
        eventually("web knows the instances of api", async || {
            let known = web.endpoints("default/api").await?;
            ensure!(known.len() == count, "{known:?}");
            Ok(Some(()))
        })
        .await
    }

    /// The line of `weft status` about Consul, and what is said below the table about it.
    pub(crate) async fn consul_status(&self) -> Result<String> {
        let said = self.mesh.weft(&["status"]).await?;
        let lines: Vec<&str> =
            said.lines().filter(|line| line.trim_start().starts_with("consul/dc1")).collect();
        Ok(lines.join("\n"))
    }

    /// Waits until `weft status` says all of this about Consul; what it said then.
    pub(crate) async fn until_status(&self, words: &[&str]) -> Result<String> {
        eventually(&format!("weft status says {words:?}"), async || {
            let said = self.consul_status().await?;
            ensure!(words.iter().all(|word| said.contains(word)), "{said}");
            Ok(Some(said))
        })
        .await
    }

    /// Waits until `weft status` shows Consul in a state: the second column.
    pub(crate) async fn until_state(&self, state: &str) -> Result<String> {
        eventually(&format!("consul/dc1 is {state}"), async || {
            let said = self.consul_status().await?;
            ensure!(state_of(&said) == Some(state), "{said}");
            Ok(Some(said))
        })
        .await
    }
}

fn state_of(status: &str) -> Option<&str> {
    status.lines().next()?.split_whitespace().nth(1)
}

/// The load of the tests.
pub(crate) fn load(web: &Proxy) -> Load {
    Load::start(web.upstream("api"), "/", 4, 150)
}

/// The load of the tests, once two versions have answered. One whose first answer was slow gets little for some time.
pub(crate) async fn load_on_both(web: &Proxy) -> Result<Load> {
    let load = load(web);
    eventually("both versions are called", async || Ok((load.so_far().by_version.len() == 2).then_some(())))
        .await?;
    Ok(load)
}

/// Not one call failed, and there were calls.
pub(crate) fn none_failed(outcome: &Outcome, what: &str) {
    println!(
        "{what}: {} calls, {} failed, {:?}",
        outcome.answered,
        outcome.failures.len(),
        outcome.by_version
    );
    assert!(outcome.failures.is_empty(), "{what}: {:?}", outcome.failures.first());
    assert!(outcome.answered > 50, "{what}: only {} calls", outcome.answered);
}

/// Long enough for a hundred calls.
pub(crate) async fn a_while() {
    tokio::time::sleep(Duration::from_millis(800)).await;
}
