//! Parts are killed and lose what they had, under load: no request fails that need not. At length: `endurance/`.

use std::time::Duration;

use anyhow::{Context, Result};
use weft_integration::{App, Load, Mesh, MeshPlan, Outcome, Proxy, ProxyPlan, eventually, get};

/// `web` calls `api`, which has two instances.
struct Shop {
    mesh: Mesh,
    apps: Vec<App>,
    api: Vec<Proxy>,
    web: Proxy,
}

async fn shop() -> Result<Shop> {
    shop_with(MeshPlan::default()).await
}

async fn shop_with(plan: MeshPlan) -> Result<Shop> {
    let mesh = Mesh::start(plan).await?;
    let (mut apps, mut api) = (Vec::new(), Vec::new());
    for version in ["v1", "v2"] {
        let app = mesh.http_app("api", version).await?;
        api.push(mesh.member(&app, version, "http1").await?);
        apps.push(app);
    }
    let web = mesh.proxy(ProxyPlan::new("web", "web").upstream("api")).await?;
    web.ready().await?;
    eventually("web knows both", async || endpoints(&web, 2).await).await?;
    Ok(Shop { mesh, apps, api, web })
}

/// `Some` when the proxy has this many endpoints of `api`.
async fn endpoints(web: &Proxy, count: usize) -> Result<Option<()>> {
    let dump: serde_json::Value = serde_json::from_str(&web.admin("/config_dump").await?.1)?;
    let api = dump["services"].as_array().and_then(|all| all.iter().find(|s| s["service"] == "default/api"));
    let found = api.and_then(|api| api["endpoints"].as_array()).map_or(0, Vec::len);
    anyhow::ensure!(found == count, "web has {found} endpoints of api");
    Ok(Some(()))
}

impl Shop {
    fn load(&self) -> Load {
        Load::start(self.web.upstream("api"), "/", 4, 200)
    }

    /// The registry file of one instance.
    fn object(&self, n: usize) -> Result<(String, String)> {
        let (app, proxy) = (self.apps.get(n).context("an app")?, self.api.get(n).context("a proxy")?);
        let version = format!("v{}", n + 1);
        Ok((format!("api-{version}.yaml"), proxy.object("api", &version, app.address.port(), "http1")))
    }
}

fn none_failed(outcome: &Outcome, what: &str) {
    println!(
        "{what}: {} calls, {} failed, {:?}",
        outcome.answered,
        outcome.failures.len(),
        outcome.by_version
    );
    assert!(outcome.failures.is_empty(), "{what}: {:?}", outcome.failures.first());
    assert!(outcome.answered > 100, "{what}: only {} calls", outcome.answered);
}

async fn a_while() {
    tokio::time::sleep(Duration::from_millis(1000)).await;
}

#[tokio::test]
async fn a_control_plane_that_lost_its_state_takes_nothing_away_while_a_registry_is_silent() -> Result<()> {
    let more = "[ready]\nregistry_deadline = \"1s\"\n".to_owned();
    let mut shop = shop_with(MeshPlan { more, ..MeshPlan::default() }).await?;
    let load = shop.load();
    a_while().await;
    shop.mesh.kill_control().await?;
    // What the registries said is lost, the CA's keys are not; and the registry does not answer.
    let stored = shop.mesh.state().join("registries");
    if stored.exists() {
        std::fs::remove_dir_all(&stored)?;
    }
    let (registry, away) = (shop.mesh.path().join("registry"), shop.mesh.path().join("away"));
    std::fs::rename(&registry, &away)?;
    shop.mesh.start_control().await?;
    shop.mesh.in_sync(3).await?;
    let status = shop.mesh.weft(&["status"]).await?;
    assert!(status.contains("nothing is known of file/test: proxies keep what they have"), "{status}");
    let proxies = shop.mesh.weft(&["get", "proxies"]).await?;
    assert!(proxies.contains("2 of Workload are undecided until file/test is heard"), "{proxies}");
    a_while().await;
    endpoints(&shop.web, 2).await?;
    none_failed(&load.stop().await, "state lost and registry silent");
    // Nor does a proxy that starts anew lose what it had saved.
    shop.web.process.kill().await?;
    shop.web.start_again()?;
    shop.web.ready().await?;
    shop.mesh.in_sync(3).await?;
    endpoints(&shop.web, 2).await?;
    get(shop.web.upstream("api"), "/").await?;
    // Heard again, without one of them: that one goes.
    std::fs::remove_file(away.join("api-v1.yaml"))?;
    std::fs::rename(&away, &registry)?;
    eventually("what is gone is gone", async || endpoints(&shop.web, 1).await).await?;
    Ok(())
}

#[tokio::test]
async fn an_instance_that_is_killed_costs_at_most_what_was_in_flight() -> Result<()> {
    let mut shop = shop().await?;
    let load = shop.load();
    a_while().await;
    let before = load.so_far();
    assert_eq!(before.by_version.len(), 2, "{before:?}");
    shop.api.get_mut(0).context("a proxy")?.process.kill().await?;
    a_while().await;
    let after = load.stop().await;
    println!(
        "proxy of v1 killed: {} calls, {} failed: {:?}",
        after.answered,
        after.failures.len(),
        after.failures.first()
    );
    // Four clients have at most four requests in flight.
    assert!(after.failures.len() <= 4, "{:?}", after.failures);
    assert!(after.by_version.get("v2") > before.by_version.get("v2"));
    Ok(())
}

#[tokio::test]
async fn a_draining_endpoint_gets_nothing_new() -> Result<()> {
    let shop = shop().await?;
    let (file, object) = shop.object(0)?;
    let load = shop.load();
    a_while().await;
    shop.mesh.register(&file, &object.replace("health: healthy", "health: draining"))?;
    eventually("it drains at web", async || {
        let dump = shop.web.admin("/config_dump").await?.1;
        Ok(dump.contains("draining").then_some(()))
    })
    .await?;
    a_while().await;
    let before = load.so_far().by_version.get("v1").copied();
    a_while().await;
    let outcome = load.stop().await;
    assert_eq!(outcome.by_version.get("v1").copied(), before);
    none_failed(&outcome, "v1 drains");
    Ok(())
}

#[tokio::test]
async fn a_restarted_proxy_serves_without_a_control_plane() -> Result<()> {
    let mut shop = shop().await?;
    get(shop.web.upstream("api"), "/").await?;
    shop.mesh.kill_control().await?;
    // What the proxy knows is written a moment after it learned it; a kill may not lose it.
    a_while().await;
    shop.web.process.kill().await?;
    shop.api.get_mut(0).context("a proxy")?.process.kill().await?;
    shop.web.start_again()?;
    shop.api.get_mut(0).context("a proxy")?.start_again()?;
    shop.web.ready().await?;
    shop.api.first().context("a proxy")?.ready().await?;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..50 {
        seen.insert(get(shop.web.upstream("api"), "/").await?.version);
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
    Ok(())
}

#[tokio::test]
async fn a_bad_registry_file_costs_nothing_and_is_named_with_its_line() -> Result<()> {
    let shop = shop().await?;
    let (file, object) = shop.object(0)?;
    shop.mesh.register(&file, &format!("{object}wieght: 3\n"))?;
    eventually("weft status names the file and field", async || {
        let status = shop.mesh.weft(&["status"]).await?;
        anyhow::ensure!(status.contains(&file) && status.contains("wieght"), "{status}");
        Ok(Some(()))
    })
    .await?;
    endpoints(&shop.web, 2).await?;
    shop.mesh.register(&file, &object)?;
    eventually("the complaint goes with its cause", async || {
        Ok((!shop.mesh.weft(&["status"]).await?.contains("wieght")).then_some(()))
    })
    .await?;
    Ok(())
}
