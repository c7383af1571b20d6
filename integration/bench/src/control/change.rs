//! One endpoint changes, comes or goes: how soon each client has applied it, what it costs and what is sent.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use super::fleet::{Fleet, Wants, key};
use super::meter::{Meter, Times, Used};
use super::wire::Bytes4;
use super::world::{HOT, Shape, Start, World, instance, part_of, service};
use crate::measure;
use crate::row::Row;

/// What a series of changes brought.
#[derive(Debug, Serialize)]
pub(super) struct Series {
    services: usize,
    endpoints: usize,
    clients: usize,
    changes: usize,
    /// A weight: waits for company.
    changed: Times,
    /// Goes at once.
    gone: Times,
    /// Waits for company.
    come: Times,
    all: Times,
    /// The most that a client received for a change, on average over the changes.
    bytes: Bytes4,
    /// Without what it uses when nothing changes.
    cpu_ms_per_change: f64,
    idle_ms_per_second: f64,
    used: Used,
}

/// Ten services each; all of them the hot one.
pub(super) fn ten_of(services: usize, hot: &str) -> impl Fn(usize) -> Wants + use<> {
    let hot = hot.to_owned();
    move |client| {
        let others = (0..9).map(|n| 1 + (client * 9 + n) % (services - 1)).map(service);
        let all: std::collections::BTreeSet<_> = others.chain([hot.clone()]).collect();
        let services = all.iter().filter_map(|name| key(name).ok()).collect();
        Wants { services, hot: hot.clone(), endpoint: instance(&hot, 0) }
    }
}

/// How many services a client of [`ten_of`] wants.
pub(super) fn wanted(services: usize) -> usize {
    10.min(services)
}

async fn series(world: &World, fleet: &mut Fleet, hot: &str, rounds: usize) -> Result<Series> {
    let idle_ms_per_second = idle(world).await?;
    let (clients, mut kinds) = (fleet.len(), [Vec::new(), Vec::new(), Vec::new()]);
    let before = fleet.received();
    let meter = Meter::start(world.pid()?)?;
    for round in 0..rounds {
        let weight = 101 + u32::try_from(round)?;
        for (kind, first) in [Some(weight), None, Some(100)].into_iter().enumerate() {
            let at = world.set_first(hot, first)?;
            let times = fleet.all_see(first, clients).await?;
            if let Some(kind) = kinds.get_mut(kind) {
                kind.extend(times.into_iter().map(|time| time.saturating_duration_since(at)));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    let used = meter.stop()?;
    fleet.check().await?;
    let changes = 3 * rounds;
    let bytes = most(&before, &fleet.received(), changes as u64);
    let all = Times::of(kinds.concat());
    let [changed, gone, come] = kinds.map(Times::of);
    let idle = idle_ms_per_second * used.wall_ms / 1e3;
    let cpu_ms_per_change = (used.control_ms - idle).max(0.0) / changes as f64;
    let Shape { services, endpoints } = world.shape;
    Ok(Series {
        services,
        endpoints,
        clients,
        changes,
        changed,
        gone,
        come,
        all,
        bytes,
        cpu_ms_per_change,
        idle_ms_per_second,
        used,
    })
}

/// CPU in a second in which nothing happens; long enough for what is done every ten seconds.
async fn idle(world: &World) -> Result<f64> {
    let meter = Meter::start(world.pid()?)?;
    tokio::time::sleep(world.idle).await;
    let used = meter.stop()?;
    Ok(used.control_ms * 1e3 / used.wall_ms)
}

fn most(before: &[Bytes4], after: &[Bytes4], changes: u64) -> Bytes4 {
    let each = after.iter().zip(before).map(|(after, before)| after.since(*before));
    let most = each.max_by_key(|bytes| bytes.framed).unwrap_or_default();
    let share = |bytes: u64| bytes.div_ceil(changes.max(1));
    Bytes4 {
        payload: share(most.payload),
        framed: share(most.framed),
        raw: share(most.raw),
        resources: share(most.resources),
    }
}

/// The rows of a mesh of ordinary size: start, memory, a change.
pub(super) async fn ordinary(shape: Shape, clients: usize, rounds: usize) -> Result<Vec<Row>> {
    let mut world = World::new(shape)?;
    let start = world.start().await?;
    let hot = service(HOT);
    let mut fleet = Fleet::start(&world, clients, ten_of(shape.services, &hot)).await?;
    fleet.all_see(Some(100), clients).await?;
    fleet.in_sync(&world, wanted(shape.services)).await?;
    tokio::time::sleep(SETTLE).await;
    let settled = measure::peak_mib(world.pid()?)?;
    let ten = series(&world, &mut fleet, &hot, rounds).await?;
    Ok(vec![cold(shape, start, settled), change(&ten)])
}

/// The row of a change in one large service.
pub(super) async fn large(members: usize, clients: usize, rounds: usize) -> Result<Row> {
    // In files of ten; each client has all of them.
    let shape = Shape { services: 20, endpoints: 10 };
    let mut world = World::new(shape)?;
    for file in 0..members / 10 {
        world.write(&format!("big-{file:03}"), &part_of("big", file, Some(100)))?;
    }
    world.start().await?;
    let mut fleet = Fleet::start(&world, clients, ten_of(shape.services, "big")).await?;
    fleet.all_see(Some(100), clients).await?;
    fleet.in_sync(&world, wanted(shape.services)).await?;
    tokio::time::sleep(SETTLE).await;
    let big = series(&world, &mut fleet, "big", rounds).await?;
    let work = format!("the same in a service of {members} endpoints");
    Ok(Row { work, peer: "istiod: 158 / 234 ms; 73 kB; 80 ms".to_owned(), ..change(&big) })
}

/// The row that says what size costs.
pub(super) async fn cost(small: usize, large: usize, rounds: usize) -> Result<Row> {
    let mut measured = Vec::new();
    for services in [small, large] {
        let shape = Shape { services, endpoints: 10 };
        let mut world = World::new(shape)?;
        let start = world.start().await?;
        let hot = service(HOT);
        let mut fleet = Fleet::start(&world, 10, ten_of(services, &hot)).await?;
        fleet.all_see(Some(100), 10).await?;
        tokio::time::sleep(SETTLE).await;
        let series = series(&world, &mut fleet, &hot, rounds).await?;
        measured.push((start, series));
    }
    let cost = |n: usize| measured.get(n).map_or(f64::NAN, |(_, series)| series.cpu_ms_per_change);
    let ratio = cost(1) / cost(0);
    Ok(Row {
        work: format!("CPU of one change, 10 clients, {large} services against {small}"),
        peer: "istiod: 6.8 x".to_owned(),
        limit: "1.2 x",
        measured: format!("{ratio:.2} x ({:.2} against {:.2} ms)", cost(1), cost(0)),
        holds: Some(ratio <= 1.2),
        figures: json!(measured),
    })
}

fn cold(shape: Shape, start: Start, peak_mib: f64) -> Row {
    let Start { ready_ms, cpu_ms, resident_mib } = start;
    let (megabytes, peak) = (resident_mib * 1.048_576, peak_mib * 1.048_576);
    Row {
        work: format!(
            "cold start until ready, {} services x {} endpoints; memory",
            shape.services, shape.endpoints
        ),
        peer: "istiod: 1.2 s; 140 MB".to_owned(),
        limit: "1 s; 100 MB",
        measured: format!(
            "{:.2} s ({cpu_ms:.0} ms CPU); {megabytes:.0} MB, at most {peak:.0} with all clients",
            ready_ms / 1e3
        ),
        holds: Some(ready_ms <= 1000.0 && megabytes <= 100.0),
        figures: json!({ "start": start, "peak_mib": peak_mib }),
    }
}

fn change(series: &Series) -> Row {
    let Series { changed, gone, come, all, bytes, cpu_ms_per_change, idle_ms_per_second, clients, .. } =
        series;
    let in_time = all.p50 <= 15.0 && all.p99 <= 40.0;
    let cheap = bytes.framed <= 300 && *cpu_ms_per_change <= 3.0;
    let bound = series.used.is_load_bound();
    Row {
        work: format!("one endpoint change applied by {clients} clients, p50 / p99; bytes each; CPU"),
        peer: "istiod: 127 / 137 ms (28 / 127 without debounce); 1.07 kB; 33 ms".to_owned(),
        limit: "15 / 40 ms; 0.3 kB; 3 ms",
        measured: format!(
            "{:.1} / {:.1} ms (changed {:.1} / {:.1}, come {:.1} / {:.1}, gone {:.1} / {:.1}); \
             {} B ({} B payload, {} B with TLS); {cpu_ms_per_change:.2} ms ({idle_ms_per_second:.1} ms a second idle)",
            all.p50,
            all.p99,
            changed.p50,
            changed.p99,
            come.p50,
            come.p99,
            gone.p50,
            gone.p99,
            bytes.framed,
            bytes.payload,
            bytes.raw,
        ),
        holds: (!bound).then_some(in_time && cheap),
        figures: json!(series),
    }
}

/// Longer than any batch: changes do not keep each other company.
const PAUSE: Duration = Duration::from_millis(60);
/// What the start left to do (keeping what was listed on disk) is done by then.
const SETTLE: Duration = Duration::from_millis(6000);
