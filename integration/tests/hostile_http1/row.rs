//! A row of the table, and the run of a table.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use weft_integration::eventually;

use crate::world::World;

/// What the application may have received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Not a byte.
    Nothing,
    /// Exactly this.
    Exactly(String),
    /// The beginning of a request that then broke off, or nothing: the fault came after its head.
    NotWhole,
}

/// What is sent, and what must come of it.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) sent: Vec<u8>,
    pub(crate) status: u16,
    /// The kind that is counted.
    pub(crate) kind: Option<&'static str>,
    pub(crate) seen: Seen,
}

/// Refused: nothing arrives.
pub(crate) fn refused(name: &'static str, sent: impl AsRef<[u8]>, status: u16, kind: &'static str) -> Row {
    Row { name, sent: sent.as_ref().to_vec(), status, kind: Some(kind), seen: Seen::Nothing }
}

/// Refused in its body.
pub(crate) fn broken(name: &'static str, sent: impl AsRef<[u8]>, kind: &'static str) -> Row {
    Row { name, sent: sent.as_ref().to_vec(), status: 400, kind: Some(kind), seen: Seen::NotWhole }
}

/// Passed on, as `seen`.
pub(crate) fn passed(name: &'static str, sent: impl AsRef<[u8]>, seen: &str) -> Row {
    let seen = Seen::Exactly(seen.to_owned());
    Row { name, sent: sent.as_ref().to_vec(), status: 200, kind: None, seen }
}

/// Sends every row every way.
pub(crate) async fn run(rows: &[Row]) -> Result<()> {
    let world = World::start("").await?;
    let mut counted: BTreeMap<&str, u32> = BTreeMap::new();
    for row in rows {
        for (door, address) in world.doors() {
            for pieces in [1, 2] {
                let what = format!("{} ({door}, {pieces} pieces)", row.name);
                one(&world, row, address, pieces).await.with_context(|| what)?;
                if let Some(kind) = row.kind {
                    *counted.entry(kind).or_default() += 1;
                }
            }
        }
    }
    eventually("every refusal is counted by its kind", async || {
        let real = world.malformed("weft_malformed_requests_total").await?;
        let expected: BTreeMap<String, u32> =
            counted.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect();
        ensure!(real == expected, "counted {real:?}, not {expected:?}");
        Ok(Some(()))
    })
    .await
}

async fn one(world: &World, row: &Row, address: std::net::SocketAddr, pieces: usize) -> Result<()> {
    world.recorder.forget();
    let answer = world.send(address, &row.sent, pieces).await?;
    let status = answer.get(9..12).and_then(|status| status.parse::<u16>().ok()).unwrap_or(0);
    ensure!(status == row.status, "{status} instead of {}: {answer:?}", row.status);
    let seen = world.recorder.seen();
    match &row.seen {
        Seen::Nothing => ensure!(seen.is_empty(), "the application saw {seen:?}"),
        Seen::Exactly(expected) => {
            let expected = crate::world::comparable(expected);
            ensure!(seen == expected, "the application saw {seen:?} instead of {expected:?}");
        }
        Seen::NotWhole => ensure!(
            !crate::world::is_whole(seen.as_bytes()),
            "the application took this for a whole request: {seen:?}"
        ),
    }
    let good = world.send(address, b"GET /good HTTP/1.1\r\nhost: a\r\n\r\n", 1).await?;
    ensure!(good.starts_with("HTTP/1.1 200"), "the proxy is not fine: {good:?}");
    Ok(())
}
