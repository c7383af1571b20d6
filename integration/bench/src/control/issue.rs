//! How many certificates a core issues a second, by join token and by renewal.

use anyhow::Result;
use serde_json::json;

use super::certificates::{self, Member};
use super::meter::{Meter, Used};
use super::world::{Shape, World};
use crate::row::Row;

/// The rows of both ways.
pub(super) async fn rows(count: usize) -> Result<Vec<Row>> {
    let mut world = World::new(Shape { services: 1, endpoints: 1 })?;
    world.start().await?;
    let mut joins = Vec::with_capacity(count);
    for n in 0..count {
        joins.push(certificates::join(&world, &format!("app-{n}")).await?);
    }
    let meter = Meter::start(world.pid()?)?;
    let members = certificates::issue_all(world.address, joins, AT_ONCE).await?;
    let by_token = row("join token", count, meter.stop()?);
    let renewals = members.iter().map(Member::renewal).collect::<Result<Vec<_>>>()?;
    let meter = Meter::start(world.pid()?)?;
    certificates::issue_all(world.address, renewals, AT_ONCE).await?;
    Ok(vec![by_token, row("renewal", count, meter.stop()?)])
}

fn row(how: &str, count: usize, used: Used) -> Row {
    let each_us = used.control_ms * 1e3 / count as f64;
    let (a_core, a_second) = (1e6 / each_us, count as f64 * 1e3 / used.wall_ms);
    let wall = match used.is_load_bound() {
        true => "the load's core was the bottleneck: no rate over time is given".to_owned(),
        false => format!("{a_second:.0} a second over time"),
    };
    Row {
        work: format!("certificates issued by {how}, a connection each"),
        peer: "istiod: 95 a second, 277 tuned".to_owned(),
        limit: "at least 2,000 a second a core",
        measured: format!("{a_core:.0} a second of CPU ({each_us:.0} us each); {wall}"),
        holds: Some(a_core >= 2000.0),
        figures: json!({ "count": count, "used": used, "cpu_us_each": each_us, "a_core": a_core, "a_second": a_second }),
    }
}

/// Connections at a time: enough to keep the core busy while tokens wait for the disk.
const AT_ONCE: usize = 32;
