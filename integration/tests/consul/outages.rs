//! Consul's agent is killed under load, and comes back with what it knew, or with nothing.

use anyhow::{Result, ensure};
use serde_json::json;
use weft_integration::eventually;
use weft_registry_consul::testkit::ConsulOptions;

use crate::world::{BOTH, World, a_while, load_on_both, none_failed, on_consul};

#[tokio::test]
async fn a_killed_agent_costs_no_request_and_its_registry_is_stale_until_it_is_back() -> Result<()> {
    let options = ConsulOptions { persistent: true, ..ConsulOptions::default() };
    on_consul(BOTH, options, "agent killed and restarted with its data, under load", async |consul| {
        let mut world = World::start(consul, "", "").await?;
        let (_members, web) = world.shop().await?;
        let load = load_on_both(&web).await?;
        world.consul.kill()?;
        let said = world.until_state("stale").await?;
        assert!(said.contains("consul/dc1 error: ") && said.contains(" ago: "), "{said}");
        a_while().await;
        world.web_knows(&web, 2).await?;
        world.consul.restart().await?;
        let said = world.until_state("synced").await?;
        assert!(!said.contains("error"), "{said}");
        a_while().await;
        world.web_knows(&web, 2).await?;
        none_failed(&load.stop().await, "Consul killed and restarted");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_agent_that_comes_back_empty_is_not_believed_at_once() -> Result<()> {
    on_consul(BOTH, ConsulOptions::default(), "agent restarted empty, under load", async |consul| {
        let mut world = World::start(consul, "", "[registry.guard]\nconfirm_after = \"10m\"\n").await?;
        let others = ["cart", "search", "stock"].map(|name| {
            json!({"ID": name, "Name": name, "Address": "10.9.9.9", "Port": 80, "Meta": {"weft-protocol": "http1"}})
        });
        for other in &others {
            world.register(other).await?;
        }
        let (members, web) = world.shop().await?;
        let load = load_on_both(&web).await?;
        world.consul.restart().await?;
        let said = world.until_status(&["held", "waits to be confirmed"]).await?;
        assert!(said.contains("without 5 of 5 workloads"), "{said}");
        a_while().await;
        world.web_knows(&web, 2).await?;
        for definition in members.iter().map(|member| member.definition()).chain(others) {
            world.register(&definition).await?;
        }
        eventually("nothing is held any more", async || {
            let said = world.consul_status().await?;
            ensure!(said.contains("synced") && !said.contains("held"), "{said}");
            Ok(Some(()))
        })
        .await?;
        a_while().await;
        world.web_knows(&web, 2).await?;
        none_failed(&load.stop().await, "Consul restarted empty");
        Ok(())
    })
    .await
}
