//! What the states of Consul's checks mean to a caller.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use weft_integration::{Load, Proxy, eventually};
use weft_registry_consul::testkit::ConsulOptions;

use crate::world::{BOTH, World, a_while, load, none_failed, on_consul};

#[tokio::test]
async fn critical_is_not_called_warning_has_its_weight_and_maintenance_drains() -> Result<()> {
    on_consul(BOTH, ConsulOptions::default(), "check states", async |consul| {
        let world = World::start(consul, "", "").await?;
        let (members, web) = world.shop().await?;
        let [v1, _] = members.as_slice() else { anyhow::bail!("two members") };
        let mut definition = v1.definition();
        definition["Check"] = json!({"TTL": "1h", "Status": "passing"});
        definition["Weights"] = json!({"Passing": 4, "Warning": 1});
        world.register(&definition).await?;
        let id = v1.id();
        until(&web, &id, "healthy", 400).await?;
        let load = load(&web);

        set(&world, "critical").await?;
        until(&web, &id, "unhealthy", 400).await?;
        not_called(&load).await;

        set(&world, "warning").await?;
        until(&web, &id, "healthy", 100).await?;
        called(&load).await?;

        set(&world, "passing").await?;
        until(&web, &id, "healthy", 400).await?;
        called(&load).await?;

        let maintenance = async |on: bool| {
            let path = format!("agent/service/maintenance/api-v1?enable={on}&reason=test");
            world.consul.put(&path, &Value::Null).await
        };
        maintenance(true).await?;
        until(&web, &id, "draining", 400).await?;
        not_called(&load).await;
        maintenance(false).await?;
        until(&web, &id, "healthy", 400).await?;
        called(&load).await?;
        none_failed(&load.stop().await, "check states");
        Ok(())
    })
    .await
}

async fn set(world: &World, status: &str) -> Result<()> {
    world.consul.put("agent/check/update/service:api-v1", &json!({"Status": status})).await?;
    Ok(())
}

/// Waits until the caller's proxy shows the instance like this.
async fn until(web: &Proxy, id: &str, health: &str, weight: u64) -> Result<()> {
    eventually(&format!("{id} is {health} with weight {weight}"), async || {
        let known = web.endpoints("default/api").await?;
        let endpoint = known.get(id).cloned().unwrap_or_default();
        ensure!(endpoint["health"] == health && endpoint["weight"] == weight, "{known:?}");
        Ok(Some(()))
    })
    .await
}

fn calls(load: &Load) -> u64 {
    load.so_far().by_version.get("v1").copied().unwrap_or(0)
}

async fn not_called(load: &Load) {
    // Calls that were under way may still end there.
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let before = calls(load);
    a_while().await;
    assert_eq!(calls(load), before, "it is called");
}

async fn called(load: &Load) -> Result<()> {
    let before = calls(load);
    eventually("it is called", async || Ok((calls(load) > before).then_some(()))).await
}
