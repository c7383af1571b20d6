//! Saved state that is damaged: it is set aside and named, and the rest comes back from who has it.

use anyhow::{Context, Result};
use weft_integration::{Mesh, MeshPlan, ProxyPlan, eventually, get};

use crate::world::{a_while, knows, none_failed, shop, shop_with};

fn cut(path: &std::path::Path) -> Result<()> {
    let content = std::fs::read(path).with_context(|| path.display().to_string())?;
    Ok(std::fs::write(path, content.get(..content.len() / 2).unwrap_or_default())?)
}

#[tokio::test]
async fn a_proxy_with_a_cut_certificate_and_garbage_for_resources_comes_back_by_a_new_token() -> Result<()> {
    let mut shop = shop_with(MeshPlan::default(), &["v1"], "http1", "").await?;
    let token_file = shop.mesh.path().join("token");
    std::fs::write(&token_file, shop.mesh.token("default/web").await?)?;
    let table = format!("[identity]\njoin_token_file = \"{}\"\n", token_file.display());
    let plan = ProxyPlan::new("second", "web").upstream("api").identity_table(&table);
    shop.web = shop.mesh.proxy(plan).await?;
    shop.web.ready().await?;
    let state = shop.mesh.path().join("second");
    let resources = state.join("resources.json");
    eventually("its resources are saved", async || Ok(resources.exists().then_some(()))).await?;
    shop.web.process.kill().await?;

    cut(&state.join("svid.pem"))?;
    std::fs::write(&resources, b"\0\xff{garbage")?;
    std::fs::write(&token_file, shop.mesh.token("default/web").await?)?;
    shop.web.start_again()?;
    shop.web.ready().await?;
    get(shop.web.upstream("api"), "/").await?;
    let log = shop.web.process.log();
    for name in ["svid.pem", "resources.json"] {
        assert!(state.join(format!("{name}.bad")).exists(), "{name}.bad is not there");
        let line = log.lines().find(|line| line.contains("set aside") && line.contains(name));
        assert!(line.is_some(), "{name} is not named in: {log}");
    }
    Ok(())
}

#[tokio::test]
async fn a_proxy_that_lost_its_resources_waits_for_the_control_plane_and_then_serves() -> Result<()> {
    let mut shop = shop_with(MeshPlan::default(), &["v1"], "http1", "").await?;
    let resources = shop.mesh.path().join("web/resources.json");
    eventually("its resources are saved", async || Ok(resources.exists().then_some(()))).await?;
    a_while().await;
    shop.mesh.kill_control().await?;
    shop.web.process.kill().await?;
    cut(&resources)?;
    shop.web.start_again()?;
    eventually("it says what it waits for", async || {
        let (status, body) = shop.web.admin("/ready").await?;
        anyhow::ensure!(status == 503 && body.contains("api"), "{status} {body}");
        Ok(Some(()))
    })
    .await?;
    shop.mesh.start_control().await?;
    shop.web.ready().await?;
    get(shop.web.upstream("api"), "/").await?;
    Ok(())
}

#[tokio::test]
async fn a_damaged_join_token_is_refused_by_name_and_the_others_work() -> Result<()> {
    let mut mesh = Mesh::start(MeshPlan::default()).await?;
    let (damaged, good) = (mesh.token("default/damaged").await?, mesh.token("default/good").await?);
    let id = damaged.split('.').nth(1).context("weft1.<id>.…")?.to_owned();
    mesh.kill_control().await?;
    std::fs::write(mesh.state().join(format!("ca/tokens/{id}.json")), b"\0garbage")?;
    mesh.start_control().await?;

    let table = |token: &str| format!("[identity]\njoin_token = \"{token}\"\n");
    mesh.proxy(ProxyPlan::new("good", "good").identity_table(&table(&good))).await?.ready().await?;
    let refused = mesh.proxy(ProxyPlan::new("damaged", "damaged").identity_table(&table(&damaged))).await?;
    eventually("the log names the damaged token", async || {
        let log = mesh.control()?.log();
        let line = log.lines().find(|line| line.contains("no certificate was issued") && line.contains(&id));
        anyhow::ensure!(line.is_some(), "{log}");
        Ok(Some(()))
    })
    .await?;
    assert_eq!(refused.admin("/ready").await?.0, 503);
    Ok(())
}

#[tokio::test]
async fn garbage_for_what_a_registry_said_last_is_set_aside_and_costs_no_call() -> Result<()> {
    let mut shop = shop().await?;
    let load = shop.load();
    shop.mesh.kill_control().await?;
    let stored = shop.mesh.state().join("registries/file@test.jsonl");
    std::fs::create_dir_all(stored.parent().context("a directory")?)?;
    std::fs::write(&stored, b"{\"version\":1,\"regis")?;
    shop.mesh.start_control().await?;
    let log = shop.mesh.control()?.log();
    assert!(log.contains("can't be read") && log.contains("file@test.jsonl"), "{log}");
    assert!(stored.with_extension("jsonl.bad").exists());
    shop.mesh.in_sync(3).await?;
    a_while().await;
    knows(&shop.web, 2).await?;
    none_failed(load, "what a registry said last is garbage").await?;
    Ok(())
}
