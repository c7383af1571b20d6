//! Hours in small: every kind of load and of change at once, while memory, descriptors, threads and tasks are watched.
//!
//! One minute of it is part of the tests; `WEFT_SOAK_SECONDS` (by `cargo xtask soak`) makes it longer. What is held against
//! the processes: memory that does not grow in the last half, and after the load descriptors and tasks as before it.

mod churn;
mod load;
mod verdict;
mod watch;
mod world;

use std::time::Duration;

use anyhow::Result;
use weft_integration::eventually;

use verdict::{Limit, Series};
use world::World;

/// How long this run is.
#[allow(clippy::disallowed_methods)] // how cargo xtask soak says so
fn length() -> Duration {
    let asked = std::env::var("WEFT_SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(asked.unwrap_or(60).max(20))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_and_churn_leave_nothing_behind() -> Result<()> {
    let length = length();
    let mut world = World::start().await?;
    world.touch_everything().await?;
    let before = world.at_rest().await?;

    let load = load::Mixed::start(&world);
    let mut series = Series::default();
    let changes = churn::run(&mut world, length, &mut series).await?;
    let outcome = load.stop().await;

    let after = world.is_as_before(&before).await;
    println!("{} s; {outcome}; {changes}", length.as_secs());
    println!("{}", series.table(&before));
    let complaints = series.complaints(Limit::of(length));
    // Said after the table, which shows what it means.
    after?;
    anyhow::ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
    outcome.verdict()?;
    eventually("the mesh is in order at the end", async || world.serves().await.map(Some)).await
}
