//! What happens to a service every day, under load: rolling updates, canaries, nodes that are drained.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weft_integration::{Proxy, ProxyPlan, Steady, Tally, eventually, figure, get, within};

use crate::job::Job;
use crate::world::World;

/// Requests a second.
const RATE: u32 = 100;
const UPDATES: usize = 20;
const ROLLING: &str = r#"
    update {
      max_parallel = 1
      min_healthy_time = "0s"
      healthy_deadline = "30s"
    }
"#;

/// A caller outside of Nomad, and its load on `api`.
pub(crate) async fn load(world: &World) -> Result<(Proxy, Steady)> {
    let outside = world.mesh.proxy(ProxyPlan::new("outside", "outside").upstream("api")).await?;
    outside.ready().await?;
    eventually("api answers", async || get(outside.upstream("api"), "/").await.map(Some)).await?;
    let load = Steady::start(outside.upstream("api"), "/", RATE);
    Ok((outside, load))
}

pub(crate) fn none_failed(what: &str, tally: &Tally) -> Result<()> {
    figure(&format!("nomad: {what}"), &tally.words());
    let failures: Vec<_> = tally.failures().take(3).collect();
    ensure!(failures.is_empty(), "{what}: {}: {failures:?}", tally.words());
    ensure!(tally.answered > 0, "{what}: nothing was answered");
    Ok(())
}

#[tokio::test]
async fn twenty_rolling_updates_lose_no_request() -> Result<()> {
    let Some(world) = World::start(2, "").await? else { return Ok(()) };
    let job = |version: &str| Job::new("api").count(2).version(version).more(ROLLING).hcl(&world);
    world.run(&job("v0")).await?;
    world.until_running("api", 2).await?;
    world.until_in_mesh("api", 2).await?;
    let (_outside, load) = load(&world).await?;
    for update in 1..=UPDATES {
        world.run(&job(&format!("v{update}"))).await?;
        until_deployed(&world, "api").await.with_context(|| format!("update {update}"))?;
    }
    none_failed("20 rolling updates", &load.stop().await)
}

/// Waits until the latest deployment of a job is over.
async fn until_deployed(world: &World, job: &str) -> Result<()> {
    let deployed = async || {
        let deployment = world.server.get(&format!("job/{job}/deployment")).await?;
        ensure!(
            deployment["Status"] != "failed",
            "the deployment failed: {}",
            deployment["StatusDescription"]
        );
        let version = world.server.get(&format!("job/{job}")).await?["Version"].clone();
        Ok((deployment["Status"] == "successful" && deployment["JobVersion"] == version).then_some(()))
    };
    match within(Duration::from_secs(60), "the deployment is over", deployed).await {
        Err(error) => Err(error.context(world.story(job).await)),
        Ok(()) => Ok(()),
    }
}

#[tokio::test]
async fn a_canary_is_promoted_and_a_node_is_drained_and_no_request_is_lost() -> Result<()> {
    let Some(world) = World::start(2, "").await? else { return Ok(()) };
    const CANARY: &str = r#"
    update {
      canary = 1
      max_parallel = 1
      min_healthy_time = "0s"
      healthy_deadline = "30s"
    }
    migrate {
      max_parallel = 1
      min_healthy_time = "0s"
      healthy_deadline = "30s"
    }
"#;
    let job = |version: &str| Job::new("api").count(2).version(version).more(CANARY).hcl(&world);
    world.run(&job("v1")).await?;
    world.until_running("api", 2).await?;
    world.until_in_mesh("api", 2).await?;
    let (_outside, load) = load(&world).await?;

    world.run(&job("v2")).await?;
    world.until_in_mesh("api", 3).await?;
    let canaries = world.workloads("api").await?;
    let canary = canaries.iter().filter(|one| one["labels"]["nomad/canary"] == "true").collect::<Vec<_>>();
    ensure!(canary.len() == 1 && canary[0]["labels"]["version"] == "v2", "{canaries:?}");
    let deployment = world.server.get("job/api/deployment").await?["ID"].as_str().context("text")?.to_owned();
    let promote = json!({"DeploymentID": deployment, "All": true});
    eventually("it can be promoted", async || {
        Ok(world.server.post(&format!("deployment/promote/{deployment}"), &promote).await.ok())
    })
    .await?;
    until_deployed(&world, "api").await?;
    world.until_in_mesh("api", 2).await?;

    let node = world.running("api").await?.first().context("it runs")?["NodeID"]
        .as_str()
        .context("text")?
        .to_owned();
    let drain = json!({"NodeID": node, "DrainSpec": {"Deadline": 60_000_000_000_u64, "IgnoreSystemJobs": false}, "MarkEligible": false});
    world.server.post(&format!("node/{node}/drain"), &drain).await?;
    within(Duration::from_secs(60), "nothing runs on the drained node", async || {
        let running = world.running("api").await?;
        Ok((running.len() == 2 && running.iter().all(|one| one["NodeID"] != json!(node))).then_some(()))
    })
    .await?;
    world.until_in_mesh("api", 2).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    none_failed("a canary and a drained node", &load.stop().await)
}
