//! Consul is away for a minute, comes back with nothing in it, and is filled again. The guard has its default settings.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weft_integration::{Mesh, MeshPlan, eventually, ran_on, skipped_on};
use weft_registry_consul::testkit::{ConsulOptions, ConsulServer, ConsulVersion};

use crate::world::{Shop, Traffic, lasts};

const AWAY: Duration = Duration::from_secs(60);
/// Beyond the second read that confirms a smaller loss.
const EMPTY: Duration = Duration::from_secs(40);

#[tokio::test]
async fn a_consul_that_is_away_then_empty_then_filled_again_costs_no_request() -> Result<()> {
    let (what, name) = ("away for 60 s, restarted empty, restored, under load", "Consul 1.20.5");
    weft_identity::install_crypto_provider();
    let Some(mut consul) = ConsulServer::start(ConsulVersion::V1_20_5, ConsulOptions::default()).await?
    else {
        skipped_on(name, what);
        return Ok(());
    };
    let more =
        format!("[[registry]]\nid = \"consul/dc1\"\n[registry.consul]\naddress = \"{}\"\n", consul.address());
    let mesh = Mesh::start(MeshPlan { more, ..MeshPlan::default() }).await?;
    let shop = Shop::with(mesh, &|plan| plan).await?;
    register(&shop, &consul, 0..2).await?;
    shop.knows(4).await?;
    // From here on they are in Consul only.
    for n in 0..2 {
        shop.mesh.deregister(&shop.object(n)?.0)?;
    }
    shop.knows(2).await?;

    let traffic = Traffic::start(&shop.web).await?;
    consul.kill()?;
    until(&shop, "stale").await?;
    lasts(AWAY).await;
    shop.knows(2).await?;
    consul.restart().await?;
    until(&shop, "held").await?;
    lasts(EMPTY).await;
    shop.knows(2).await?;
    for n in 0..2 {
        register(&shop, &consul, n..n + 1).await?;
        lasts(Duration::from_secs(1)).await;
        shop.knows(2).await?;
    }
    eventually("nothing is held any more", async || {
        let said = shop.mesh.weft(&["status"]).await?;
        ensure!(!said.contains("held") && !said.contains("stale"), "{said}");
        Ok(Some(()))
    })
    .await?;
    traffic.meets(200).await?;
    traffic.unharmed("Consul away for 60 s, empty for 40 s, restored", "").await?;
    ran_on(name, what);
    Ok(())
}

async fn register(shop: &Shop, consul: &ConsulServer, which: std::ops::Range<usize>) -> Result<()> {
    for n in which {
        let (app, proxy) = (shop.apps.get(n).context("an app")?, shop.api.get(n).context("a proxy")?);
        let definition = proxy.definition("api", &format!("v{}", n + 1), app.address.port(), "http1");
        consul.put("agent/service/register", &definition).await?;
    }
    Ok(())
}

async fn until(shop: &Shop, word: &str) -> Result<()> {
    eventually(&format!("consul/dc1 is {word}"), async || {
        let said = shop.mesh.weft(&["status"]).await?;
        let is = said.lines().any(|line| line.contains("consul/dc1") && line.contains(word));
        ensure!(is, "{said}");
        Ok(Some(()))
    })
    .await
}
