//! A sidecar's life beside its application: it is there before it, outlives it, and never keeps it from ending.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weft_integration::{eventually, within};

use crate::job::Job;
use crate::world::World;

/// A job that calls `api` once and ends.
fn once(kind: &str, name: &str) -> String {
    format!(
        r#"
job "{name}" {{
  type = "{kind}"
  group "{name}" {{
    meta = {{
      "weft.dev/inject" = "true"
      "weft.dev/upstreams" = "api=9000"
    }}
    # The server that is built for the tests has a newer API module, which leaves it out for sysbatch.
    reschedule {{
      attempts = 0
      unlimited = false
    }}
    task "app" {{
      driver = "raw_exec"
      config {{
        command = "/usr/bin/env"
        args = ["python3", "-c", "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9000/').read().decode())"]
      }}
    }}
  }}
}}
"#
    )
}

#[tokio::test]
async fn jobs_that_end_are_complete_with_their_sidecars() -> Result<()> {
    let Some(world) = World::start(2, "").await? else { return Ok(()) };
    world.run(&Job::new("api").hcl(&world)).await?;
    world.until_running("api", 1).await?;
    world.until_in_mesh("api", 1).await?;
    for (kind, count) in [("batch", 1), ("sysbatch", 2)] {
        world.run(&once(kind, kind)).await?;
        let complete = async || {
            let all = world.server.get(&format!("job/{kind}/allocations")).await?;
            let all = all.as_array().context("a list")?;
            let done = all.iter().filter(|one| one["ClientStatus"] == "complete").count();
            ensure!(all.iter().all(|one| one["ClientStatus"] != "failed"), "it failed");
            Ok((done == count && all.len() == count).then_some(()))
        };
        let waited = eventually(&format!("{kind} is complete"), complete).await;
        if let Err(error) = waited {
            return Err(error.context(world.story(kind).await));
        }
        let job = world.server.get(&format!("job/{kind}")).await?;
        ensure!(job["Status"] == "dead", "{}", job["Status"]);
    }
    Ok(())
}

/// The process of a task of the only allocation of a job.
pub(crate) async fn pid(world: &World, job: &str, task: &str) -> Result<u32> {
    let alloc =
        world.running(job).await?.first().context("it runs")?["ID"].as_str().context("text")?.to_owned();
    let wanted = [format!("NOMAD_ALLOC_ID={alloc}"), format!("NOMAD_TASK_NAME={task}")];
    for process in std::fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = process.file_name().to_string_lossy().parse::<u32>() else { continue };
        let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
        let variables: Vec<&[u8]> = environment.split(|byte| *byte == 0).collect();
        if wanted.iter().all(|one| variables.contains(&one.as_bytes())) {
            return Ok(pid);
        }
    }
    anyhow::bail!("no process of {task}")
}

#[tokio::test]
async fn an_application_starts_after_its_proxy_is_ready_and_a_proxy_that_dies_comes_back_without_it()
-> Result<()> {
    let Some(world) = World::start(1, "").await? else { return Ok(()) };
    world.run(&Job::new("api").hcl(&world)).await?;
    world.until_running("api", 1).await?;
    world.until_in_mesh("api", 1).await?;
    let task = async |name: &str| {
        let running = world.running("api").await?;
        Ok::<Value, anyhow::Error>(running.first().context("it runs")?["TaskStates"][name].clone())
    };
    let started = async |name: &str| Ok::<_, anyhow::Error>(task(name).await?["StartedAt"].clone());
    let ready = task("weft-ready").await?["FinishedAt"].as_str().context("it ended")?.to_owned();
    let app = started("app").await?.as_str().context("it started")?.to_owned();
    ensure!(app > ready, "the application started at {app}, its proxy was ready at {ready}");

    let (before, proxy) = (pid(&world, "api", "app").await?, pid(&world, "api", "weft-proxy").await?);
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(i32::try_from(proxy)?).context("a pid")?,
        rustix::process::Signal::KILL,
    )?;
    within(Duration::from_secs(20), "the proxy is back", async || {
        let again = task("weft-proxy").await?;
        Ok((again["State"] == "running" && again["Restarts"] == 1).then_some(()))
    })
    .await?;
    ensure!(pid(&world, "api", "app").await? == before, "the application was restarted");
    world.until_in_mesh("api", 1).await
}
