//! The control plane is killed and started again; every client comes back with what it holds.

use anyhow::{Result, ensure};
use serde_json::json;

use super::change::{ten_of, wanted};
use super::fleet::Fleet;
use super::meter::Meter;
use super::wire::Bytes4;
use super::world::{HOT, Shape, World, service};
use crate::measure::{self, Cpu};
use crate::row::Row;

/// The row of a restart.
pub(super) async fn restart(shape: Shape, clients: usize) -> Result<Row> {
    let mut world = World::new(shape)?;
    world.start().await?;
    let subscriptions = wanted(shape.services);
    let mut fleet = Fleet::start(&world, clients, ten_of(shape.services, &service(HOT))).await?;
    fleet.all_see(Some(100), clients).await?;
    fleet.in_sync(&world, subscriptions).await?;
    // What was listed is on disk: the state is unchanged, also for a control plane that starts before its registry.
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;

    world.kill().await?;
    fleet.reconnect().await?;
    let start = world.spawn()?;
    let load = Meter::start(world.pid()?)?;
    world.ready().await?;
    let ready_ms = start.elapsed().as_secs_f64() * 1e3;
    let synced = fleet.in_sync(&world, subscriptions).await?;
    let (wall_ms, used) = ((synced - start).as_secs_f64() * 1e3, load.stop()?);
    let pid = world.pid()?;
    let (cpu_ms, peak) = (Cpu::of(pid).total_ms()?, measure::peak_mib(pid)?);
    fleet.check().await?;
    let received = fleet.received().iter().fold(Bytes4::default(), |sum, one| Bytes4 {
        payload: sum.payload + one.payload,
        framed: sum.framed + one.framed,
        raw: sum.raw + one.raw,
        resources: sum.resources + one.resources,
    });
    ensure!(fleet.members().len() == clients, "members are missing");
    let bound = used.is_load_bound();
    let refused = if bound { "; the load's core was the bottleneck: no time is given" } else { "" };
    Ok(Row {
        work: format!(
            "{clients} clients with {subscriptions} subscriptions each reconnect over mTLS to a restarted control plane"
        ),
        peer: "istiod: 53 s, 1.3 GB, 81 CPU s (1,000 scoped by hand, plaintext: 2.3 s, 6.9 CPU s)".to_owned(),
        limit: "no resource sent; in sync in 1.5 s; 2 CPU s",
        measured: format!(
            "{} resources sent; in sync {:.2} s after the exec (ready after {:.2}); {:.2} CPU s; peak {:.0} MB{refused}",
            received.resources,
            wall_ms / 1e3,
            ready_ms / 1e3,
            cpu_ms / 1e3,
            peak * 1.048_576,
        ),
        holds: match (received.resources == 0 && cpu_ms <= 2000.0, bound) {
            (true, true) if wall_ms > 1500.0 => None,
            (rest, _) => Some(rest && wall_ms <= 1500.0),
        },
        figures: json!({
            "ready_ms": ready_ms, "in_sync_ms": wall_ms, "cpu_ms": cpu_ms, "peak_mib": peak, "received": received,
            "load_ms": used.load_ms,
        }),
    })
}
