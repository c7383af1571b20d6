//! The mesh in a real Nomad: groups get their proxies by their `meta`, call each other and the rest of the mesh, and lose no
//! request to what happens in a cluster every day.

mod network;
mod world;

use anyhow::{Context, Result, ensure};
use weft_integration::{ProxyPlan, eventually, get};

use world::World;

/// A group of a job: its name, its `meta`, its network, its count and the application's words.
pub(crate) fn http_job(
    world: &World,
    name: &str,
    meta: &[(&str, &str)],
    bridge: bool,
    count: usize,
    more: &str,
) -> String {
    let meta: Vec<String> =
        meta.iter().map(|(key, value)| format!("\"weft.dev/{key}\" = \"{value}\"")).collect();
    let (network, listen) = match bridge {
        true => ("mode = \"bridge\"\n      port \"http\" {\n        to = 8080\n      }", "0.0.0.0:8080"),
        false => ("port \"http\" {\n      }", "${NOMAD_IP_http}:${NOMAD_PORT_http}"),
    };
    format!(
        r#"
job "{name}" {{
  group "{name}" {{
    count = {count}
    meta = {{
      "weft.dev/inject" = "true"
      "weft.dev/protocol" = "http1"
      {meta}
    }}
    network {{
      {network}
    }}
    update {{
      max_parallel = 1
      min_healthy_time = "1s"
    }}
    service {{
      name = "{name}"
      port = "http"
      provider = "nomad"
      check {{
        type = "http"
        path = "/"
        interval = "1s"
        timeout = "1s"
      }}
    }}
    task "app" {{
      driver = "raw_exec"
      config {{
        command = "{app}"
        args = ["workload", "http", "--name", "{name}", "--version", "${{NOMAD_META_version}}", "--listen", "{listen}", "--upstream", "http://127.0.0.1:9000"]
      }}
      meta {{
        version = "v1"
      }}
      resources {{
        cpu = 20
        memory = 32
      }}
    }}
{more}
  }}
}}
"#,
        meta = meta.join("\n      "),
        app = world.app(),
    )
}

/// The body of a GET that is answered with 200.
async fn text(address: std::net::SocketAddr, path: &str) -> Result<String> {
    let answer = reqwest::Client::builder().no_proxy().tls_certs_only([]).build()?;
    let answer = answer.get(format!("http://{address}{path}")).send().await?.error_for_status()?;
    Ok(answer.text().await?)
}

#[tokio::test]
async fn jobs_call_each_other_and_a_file_workload_by_explicit_upstreams_and_by_capture() -> Result<()> {
    let Some(world) = World::start(2, "").await? else { return Ok(()) };
    world.run(&http_job(&world, "api", &[], true, 2, "")).await?;
    world.run(&http_job(&world, "web", &[("upstreams", "api=9000")], false, 1, "")).await?;
    world.until_running("api", 2).await?;
    world.until_running("web", 1).await?;
    world.until_in_mesh("api", 2).await?;
    world.until_in_mesh("web", 1).await?;

    let outside =
        world.mesh.proxy(ProxyPlan::new("outside", "outside").upstream("web").upstream("api")).await?;
    outside.ready().await?;
    let direct =
        eventually("api answers", async || get(outside.upstream("api"), "/").await.map(Some)).await?;
    assert_eq!(direct.caller.as_deref(), Some("spiffe://test.weft/ns/default/sa/outside"));
    let relayed = async || text(outside.upstream("web"), "/relay").await.map(Some);
    let relayed = eventually("web relays", relayed).await?;
    ensure!(relayed.contains("spiffe://test.weft/ns/default/sa/web"), "{relayed}");
    let shown = world.mesh.weft(&["get", "workloads", "api"]).await.context("weft get workloads")?;
    println!("{shown}");
    Ok(())
}
