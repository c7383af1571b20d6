//! What changes meanwhile: endpoints flap, services come and go on demand, the control plane is restarted.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use weft_integration::http1;

use super::verdict::Series;
use super::world::World;

/// Names of services that come and go; with more, the proxy would rightly remember more.
const NAMES: u64 = 20;
/// One round: a flap, a service, a sample.
const ROUND: Duration = Duration::from_secs(1);

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    flaps: u64,
    services: u64,
    restarts: u64,
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} flaps, {} services came and went, {} restarts",
            self.flaps, self.services, self.restarts
        )
    }
}

/// Changes things and takes samples for `length`.
pub(crate) async fn run(world: &mut World, length: Duration, series: &mut Series) -> Result<Changes> {
    let (start, mut changes) = (Instant::now(), Changes::default());
    // Both in the first half: a new process starts small, and the last half is to show that nothing grows.
    let mut restarts = vec![length / 5, length * 2 / 5];
    while start.elapsed() < length {
        let next = Instant::now() + ROUND;
        if restarts.first().is_some_and(|at| start.elapsed() > *at) {
            restarts.remove(0);
            changes.restarts += 1;
            world.mesh.kill_control().await?;
            world.mesh.start_control().await?;
        }
        flap(world, changes.flaps).await?;
        changes.flaps += 1;
        come_and_go(world, changes.services % NAMES).await?;
        changes.services += 1;
        series.add(world.held().await?);
        tokio::time::sleep_until(next.into()).await;
    }
    for callee in 0..2 {
        world.register(callee)?;
    }
    Ok(changes)
}

/// One of the two callees leaves and is back at the next turn.
async fn flap(world: &World, n: u64) -> Result<()> {
    match n % 4 {
        0 => world.mesh.deregister(&World::file(1)),
        1 => world.register(1),
        2 => world.mesh.deregister(&World::file(0)),
        _ => world.register(0),
    }
}

/// A service that nobody declared is asked for by name, and goes; a while later it comes again.
async fn come_and_go(world: &World, n: u64) -> Result<()> {
    let (service, file) = (format!("extra-{n}"), format!("extra-{n}.yaml"));
    let app = world.apps.first().context("the HTTP application")?;
    world.mesh.register(&file, &world.object((n % 2) as usize, app, &service)?)?;
    let request = hyper::Request::get("/").header("host", &service).body(Full::<Bytes>::default())?;
    // It may come too late for this request, which then gets a 404 or 503: either is fine here.
    let response = http1(world.entries().any, request).await?;
    response.into_body().collect().await?;
    world.mesh.deregister(&file)
}
