//! `weft ca rotate` under load: announced, switched and retired by the control plane itself, with a crash in between, and
//! no call and no handshake fails.

use anyhow::{Result, ensure};
use weft_integration::{MeshPlan, eventually};

use crate::world::{Shop, none_failed, shop_with};

/// Waits for a phase; returns the signing root.
async fn phase(shop: &Shop, wanted: &str) -> Result<String> {
    eventually(&format!("the rotation is {wanted}"), async || {
        let said = shop.mesh.admin("/v1/ca").await?;
        ensure!(said["rotation"] == wanted, "{said}");
        Ok(Some(said["signing_root_sha256"].as_str().unwrap_or_default().to_owned()))
    })
    .await
}

/// Handshakes that any proxy has refused.
async fn refused(shop: &Shop) -> Result<f64> {
    let mut sum = 0.0;
    for proxy in shop.api.iter().chain([&shop.web]) {
        let page = proxy.admin("/metrics").await?.1;
        let lines = page.lines().filter(|line| line.starts_with("weft_handshakes_refused_total"));
        sum += lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>();
    }
    Ok(sum)
}

#[tokio::test]
async fn a_root_is_replaced_by_one_command_without_a_failed_handshake() -> Result<()> {
    let plan = MeshPlan { more: "[ca]\nleaf_ttl = \"10s\"\n".to_owned(), ..MeshPlan::default() };
    let mut shop = shop_with(plan, &["v1"], "http1", "").await?;
    let load = shop.load();
    let old = phase(&shop, "none").await?;
    let told = shop.mesh.weft(&["ca", "rotate"]).await?;
    ensure!(told.contains("announced") && told.contains(&old), "{told}");
    ensure!(phase(&shop, "announced").await? == old, "the new root signs too early");
    ensure!(shop.mesh.weft(&["ca", "rotate"]).await.is_err(), "a second one was begun");
    // A crash resumes in the same phase.
    shop.mesh.kill_control().await?;
    shop.mesh.start_control().await?;
    ensure!(phase(&shop, "announced").await? == old);
    let new = phase(&shop, "switched").await?;
    ensure!(new != old, "the old root still signs");
    shop.mesh.kill_control().await?;
    shop.mesh.start_control().await?;
    ensure!(phase(&shop, "switched").await? == new);
    ensure!(phase(&shop, "none").await? == new, "the old root is back");
    let status = shop.mesh.weft(&["ca", "status"]).await?;
    ensure!(status.contains(&new) && !status.contains(&old), "{status}");
    eventually("the proxies trust the new root alone", async || {
        for proxy in shop.api.iter().chain([&shop.web]) {
            let dump: serde_json::Value = serde_json::from_str(&proxy.admin("/config_dump").await?.1)?;
            let roots = &dump["identity"]["trust"][0]["roots"];
            ensure!(*roots == 1, "{roots} roots");
        }
        Ok(Some(()))
    })
    .await?;
    none_failed(load, "a root replaced by weft ca rotate").await?;
    let refused = refused(&shop).await?;
    println!("handshakes refused through the whole rotation: {refused}");
    ensure!(refused == 0.0, "{refused} handshakes were refused");
    Ok(())
}
