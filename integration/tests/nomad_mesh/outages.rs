//! Nomad's server goes away, and then its clients: what runs goes on being called.

use std::time::Duration;

use anyhow::Result;

use crate::job::Job;
use crate::updates::{load, none_failed};
use crate::world::World;

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_minute_without_nomads_server_and_one_without_its_client_lose_no_request() -> Result<()> {
    let Some(mut world) = World::start(1, "").await? else { return Ok(()) };
    // Nomad waits for a client that is away, and does not take its jobs for lost.
    let patient = "disconnect {\n      lost_after = \"10m\"\n    }\n";
    world.run(&Job::new("api").count(2).more(patient).hcl(&world)).await?;
    world.until_running("api", 2).await?;
    world.until_in_mesh("api", 2).await?;

    let (outside, steady) = load(&world).await?;
    world.server.kill()?;
    tokio::time::sleep(MINUTE).await;
    world.server.restart().await?;
    none_failed("a minute without the server", &steady.stop().await)?;
    world.until_in_mesh("api", 2).await?;
    drop(outside);

    let (_outside, steady) = load(&world).await?;
    world.clients[0].kill()?;
    tokio::time::sleep(MINUTE).await;
    world.clients[0].restart().await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    none_failed("a minute without the client", &steady.stop().await)?;
    world.until_in_mesh("api", 2).await
}
