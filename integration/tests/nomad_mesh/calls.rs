//! Who calls whom, and as whom.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use weft_integration::{ProxyPlan, eventually, get};

use crate::job::Job;
use crate::world::World;

/// The body of a GET that is answered with 200.
pub(crate) async fn text(address: SocketAddr, path: &str) -> Result<String> {
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build()?;
    let answer = client.get(format!("http://{address}{path}")).send().await?.error_for_status()?;
    Ok(answer.text().await?)
}

#[tokio::test]
async fn jobs_call_each_other_and_a_file_workload_by_explicit_upstreams_and_by_capture() -> Result<()> {
    let Some(world) = World::start(2, "").await? else { return Ok(()) };
    world.run(&Job::new("api").count(2).hcl(&world)).await?;
    world.run(&Job::new("web").in_host().meta("upstreams", "api=9000").hcl(&world)).await?;
    world.run(&Job::new("store").speaks("tcp").hcl(&world)).await?;
    for (job, count) in [("api", 2), ("web", 1), ("store", 1)] {
        world.until_running(job, count).await?;
        world.until_in_mesh(job, count).await?;
    }
    let plan = ProxyPlan::new("outside", "outside").upstream("web").upstream("api").upstream("store");
    let outside = world.mesh.proxy(plan).await?;
    outside.ready().await?;

    let direct =
        eventually("api answers", async || get(outside.upstream("api"), "/").await.map(Some)).await?;
    assert_eq!(direct.caller.as_deref(), Some("spiffe://test.weft/ns/default/sa/outside"));
    let relayed = async || text(outside.upstream("web"), "/relay").await.map(Some);
    let relayed = eventually("web relays", relayed).await?;
    ensure!(relayed.contains("spiffe://test.weft/ns/default/sa/web"), "{relayed}");

    let mut store = BufReader::new(TcpStream::connect(outside.upstream("store")).await?);
    let mut line = String::new();
    store.read_line(&mut line).await?;
    store.write_all(b"set a 1\n").await?;
    store.read_line(&mut line).await?;
    ensure!(line.contains("store"), "the server speaks first: {line:?}");

    let shown = world.workloads("api").await?;
    for one in &shown {
        let node = world.clients.iter().find(|client| one["addresses"][0] == client_address(client));
        ensure!(node.is_some(), "its address is a node's: {one}");
        ensure!(one["locality"].as_str().is_some_and(|at| at.starts_with("dc1/z")), "{one}");
    }
    Ok(())
}

fn client_address(client: &weft_registry_nomad::testkit::NomadServer) -> String {
    let address = client.address();
    let host = address.trim_start_matches("http://");
    host.rsplit_once(':').map_or(host, |(host, _)| host).to_owned()
}

/// `web` knows nothing of a mesh: it calls a name, and the address that Nomad itself gives it.
#[tokio::test]
async fn what_is_captured_reaches_a_service_by_its_name_and_by_the_address_that_nomad_gives() -> Result<()> {
    let Some(world) = World::start(1, "").await? else { return Ok(()) };
    world.run(&Job::new("api").hcl(&world)).await?;
    world.until_running("api", 1).await?;
    world.until_in_mesh("api", 1).await?;
    let registration = world.server.get("service/api").await?;
    let (address, port) = (&registration[0]["Address"], &registration[0]["Port"]);
    let by_address = format!("http://{}:{port}/", address.as_str().unwrap_or_default());
    for (job, url) in [("by-name", "http://api.default.mesh/"), ("by-address", by_address.as_str())] {
        let hcl = Job::new(job).hcl(&world).replace("http://127.0.0.1:9000", url);
        world.run(&hcl).await?;
        world.until_running(job, 1).await?;
        world.until_in_mesh(job, 1).await?;
        let outside =
            world.mesh.proxy(ProxyPlan::new(&format!("outside-{job}"), "outside").upstream(job)).await?;
        outside.ready().await?;
        let relayed = async || {
            let said = text(outside.upstream(job), "/relay").await?;
            Ok(said.contains(&format!("spiffe://test.weft/ns/default/sa/{job}")).then_some(()))
        };
        let relayed = eventually(&format!("{job} calls api as itself"), relayed).await;
        if let Err(error) = relayed {
            let said = text(outside.upstream(job), "/relay").await;
            return Err(error.context(format!("{said:?}\n{}", world.story(job).await)));
        }
    }
    Ok(())
}
