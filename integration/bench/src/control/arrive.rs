//! A new service comes to a mesh that has many: who asked for it is told, nobody else hears a byte.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::change::{ten_of, wanted};
use super::fleet::{Fleet, key};
use super::meter::{Meter, Times};
use super::world::{HOT, Shape, World, endpoints, instance, service};
use crate::row::Row;

/// The row of a new service.
pub(super) async fn new_service(shape: Shape, clients: usize, rounds: usize) -> Result<Row> {
    let mut world = World::new(shape)?;
    world.start().await?;
    let newcomer = |n: usize| format!("new-{n}");
    let ten = ten_of(shape.services, &service(HOT));
    let mut fleet = Fleet::start(&world, clients, |client| {
        let mut wants = ten(client);
        // One client each asks for a newcomer before it is there.
        if client < rounds {
            wants.hot = newcomer(client);
            wants.endpoint = instance(&wants.hot, 0);
            wants.services.extend(key(&wants.hot));
            wants.services.truncate(wanted(shape.services) + 1);
        }
        wants
    })
    .await?;
    fleet.all_see(Some(100), clients - rounds).await?;
    tokio::time::sleep(SETTLE).await;

    let before = fleet.received();
    let meter = Meter::start(world.pid()?)?;
    let mut times = Vec::new();
    for round in 0..rounds {
        let at = world.write(&newcomer(round), &endpoints(&newcomer(round), 1, Some(100)))?;
        let seen = fleet.all_see(Some(100), 1).await?;
        times.extend(seen.into_iter().map(|time| time.saturating_duration_since(at)));
        tokio::time::sleep(PAUSE).await;
    }
    let used = meter.stop()?;
    fleet.check().await?;
    let each: Vec<_> =
        fleet.received().iter().zip(&before).map(|(after, before)| after.since(*before)).collect();
    let asked = each.iter().take(rounds).map(|bytes| bytes.framed).max().unwrap_or(0);
    let others: u64 = each.iter().skip(rounds).map(|bytes| bytes.payload).sum();
    let (times, cpu) = (Times::of(times), used.control_ms / rounds as f64);
    Ok(Row {
        work: format!("one new service, {} exist, {clients} clients: bytes; CPU", shape.services),
        peer: "istiod: 517 kB to each client; 879 ms".to_owned(),
        limit: "1 kB, only to who asked for it; 5 ms",
        measured: format!(
            "{asked} B to who asked, {others} B to the others; {cpu:.2} ms ({:.1} ms p50)",
            times.p50
        ),
        holds: Some(asked <= 1000 && others == 0 && cpu <= 5.0),
        figures: json!({ "times_ms": times, "used": used, "rounds": rounds, "asked_bytes": asked, "other_bytes": others }),
    })
}

const PAUSE: Duration = Duration::from_millis(100);
const SETTLE: Duration = Duration::from_millis(6000);
