//! A disk fills up while state is written: what serves goes on, nothing that was there is lost, and it is written later.
//!
//! The state directories are small file systems in memory. Where those can't be mounted the tests say so and are skipped.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weft_integration::{Mesh, MeshPlan, ProxyPlan, SmallDisk, eventually, get};

use crate::world::{Shop, Traffic, lasts};

async fn tokens(mesh: &Mesh) -> Result<Value> {
    Ok(serde_json::from_str(&mesh.weft(&["token", "list", "-o", "json"]).await?)?)
}

/// Puts the first instance into another state of health and waits until `web` has heard of it.
async fn becomes(shop: &Shop, health: &str) -> Result<()> {
    let (file, object) = shop.object(0)?;
    shop.mesh.register(&file, &object.replace("health: healthy", &format!("health: {health}")))?;
    eventually("web hears of it", async || {
        let endpoints = shop.web.endpoints("default/api").await?;
        Ok(endpoints.values().any(|endpoint| endpoint["health"] == health).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_full_disk_of_the_control_plane_costs_no_call_and_no_token() -> Result<()> {
    let top = tempfile::tempdir()?;
    let state = top.path().join("state");
    let Some(disk) = SmallDisk::mount(&state, "a full disk of the control plane")? else { return Ok(()) };
    let plan = MeshPlan { state: Some(state.clone()), ..MeshPlan::default() };
    let mut shop = Shop::open(plan).await?;
    let kept = shop.mesh.token("default/later").await?;
    let stored = state.join("registries/file@test.jsonl");
    eventually("the registry is stored", async || Ok(stored.exists().then_some(()))).await?;
    let before = (tokens(&shop.mesh).await?, std::fs::read(&stored)?);

    let traffic = Traffic::start(&shop.web).await?;
    disk.fill()?;
    let refused = shop.mesh.token("default/web").await.err().context("a token was made on a full disk")?;
    ensure!(format!("{refused:#}").contains("No space left"), "{refused:#}");
    // Changes are served all the same, and what is stored stays whole. More than a block of them: what is appended may
    // find room behind the file's end.
    let many = |n| format!("---\nkind: Service\nname: many-{n}\nlabels: {{padding: {}}}\n", "x".repeat(200));
    shop.mesh.register("many.yaml", &(0..100).map(many).collect::<String>())?;
    becomes(&shop, "draining").await?;
    let complaint = "what it says can't be stored";
    eventually("the log says it", async || Ok(shop.mesh.control()?.log().contains(complaint).then_some(())))
        .await?;
    assert_eq!((tokens(&shop.mesh).await?, std::fs::read(&stored)?), before);

    disk.free()?;
    shop.mesh.token("default/web").await?;
    eventually("the change is stored", async || {
        let text = std::fs::read_to_string(&stored)?;
        anyhow::ensure!(text.contains("draining"), "{text}");
        Ok(Some(()))
    })
    .await?;
    // The token from before the trouble is good, also for a control plane that starts anew.
    shop.mesh.kill_control().await?;
    shop.mesh.start_control().await?;
    let table = format!("[identity]\njoin_token = \"{kept}\"\n");
    shop.mesh.proxy(ProxyPlan::new("later", "later").identity_table(&table)).await?.ready().await?;
    traffic.unharmed("the control plane's disk was full", "").await?;
    Ok(())
}

#[tokio::test]
async fn a_full_disk_of_a_proxy_costs_no_call_and_not_its_certificate() -> Result<()> {
    let mut plan = MeshPlan::default();
    // Renewed while the disk is full: what can't be saved is used all the same.
    plan.more += "[ca]\nleaf_ttl = \"10s\"\n";
    let mut shop = Shop::open(plan).await?;
    // The proxy's state moves to the small disk.
    shop.web.process.kill().await?;
    let state = shop.mesh.path().join("web");
    let saved: Vec<_> = std::fs::read_dir(&state)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter_map(|path| Some((path.file_name()?.to_owned(), std::fs::read(&path).ok()?)))
        .collect();
    let Some(disk) = SmallDisk::mount(&state, "a full disk of a proxy")? else { return Ok(()) };
    for (name, content) in saved {
        std::fs::write(state.join(name), content)?;
    }
    shop.web.start_again()?;
    shop.web.ready().await?;
    shop.knows(2).await?;

    let traffic = Traffic::start(&shop.web).await?;
    disk.fill()?;
    becomes(&shop, "draining").await?;
    let complaint = "the configuration is in use but not saved";
    eventually("the log says it", async || Ok(shop.web.process.log().contains(complaint).then_some(())))
        .await?;
    lasts(Duration::from_secs(11)).await;
    let (status, body) = shop.web.admin("/ready").await?;
    assert_eq!(status, 200, "{body}");
    becomes(&shop, "healthy").await?;
    traffic.unharmed("a proxy's disk was full over a renewal", "").await?;

    disk.free()?;
    let expiry = |pem: &str| weft_identity::Svid::from_pem(pem).map(|svid| svid.not_after());
    eventually("a certificate that is valid now is saved", async || {
        let until = expiry(&std::fs::read_to_string(state.join("svid.pem"))?)?;
        Ok((until > std::time::SystemTime::now()).then_some(()))
    })
    .await?;
    shop.web.process.kill().await?;
    shop.web.start_again()?;
    shop.web.ready().await?;
    get(shop.web.upstream("api"), "/").await?;
    Ok(())
}
