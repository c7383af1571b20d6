//! Bounds: heads, streams, windows that are never opened, answers that nobody reads.

use std::time::Duration;

use anyhow::{Result, ensure};
use weft_integration::eventually;

use crate::wire::{
    CONTINUATION, END_HEADERS, END_STREAM, HEADERS, Outcome, PING, SETTINGS, WINDOW_UPDATE, block, frame,
    head, hello,
};
use crate::world::{Entrance, World, memory};

const HEAD: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":authority", "api"), (":path", "/good")];

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    HEAD.iter().copied().chain(more.iter().copied()).collect()
}

#[tokio::test]
async fn a_head_that_is_too_large_gets_431_and_a_bomb_ends_the_connection() -> Result<()> {
    let world = World::start("").await?;
    let port = world.port();
    for (name, value, times, outcome) in [
        ("one long field", 70_000, 1, Outcome::Status(431)),
        ("many short fields", 10, 2_000, Outcome::Status(431)),
        ("four times the limit", 60_000, 5, Outcome::GoAway(11)),
        ("more fields than a map holds", 1, 30_000, Outcome::GoAway(11)),
    ] {
        for entrance in [Entrance::Upstream, Entrance::Tunnel] {
            let before = world.refused(entrance, "").await?;
            let text = "y".repeat(value);
            let names: Vec<String> = (0..times).map(|n| format!("x{n}")).collect();
            let mut fields = with(&[("weft-port", &port)]);
            fields.extend(names.iter().map(|name| (name.as_str(), text.as_str())));
            let mut raw = world.enter(entrance).await?;
            raw.send(&[hello(true), head(1, &fields, END_STREAM)].concat()).await.ok();
            let seen = raw.outcome(1).await?;
            ensure!(seen == outcome, "{name} ({entrance:?}): {seen:?} instead of {outcome:?}");
            let counted = world.refused(entrance, "").await? - before;
            ensure!(counted == 1.0, "{name} ({entrance:?}): {counted} refusals");
            if outcome == Outcome::Status(431) {
                // The connection goes on, and its table of fields is the same on both sides.
                raw.send(&head(3, &with(&[("weft-port", &port)]), END_STREAM)).await?;
                let next = raw.outcome(3).await?;
                ensure!(next == Outcome::Status(200), "{name} ({entrance:?}): then {next:?}");
            }
            world.good().await?;
        }
    }
    ensure!(world.seen.take().is_empty());
    Ok(())
}

/// One field in the table, which each of many heads repeats a thousand times: a megabyte from a few bytes.
#[tokio::test]
async fn a_bomb_of_references_costs_its_sender_the_connection() -> Result<()> {
    let world = World::start("").await?;
    for entrance in [Entrance::Upstream, Entrance::Tunnel] {
        let mut raw = world.enter(entrance).await?;
        let mut first = vec![0x40, 1, b'x', 127, 0xa1, 0x1e];
        first.extend([b'y'; 4_000]);
        let mut bytes = [hello(true), frame(HEADERS, 0, 1, &[block(&HEAD), first].concat())].concat();
        bytes.extend(frame(CONTINUATION, END_HEADERS, 1, &[0xbe; 16_000]));
        raw.send(&bytes).await.ok();
        let seen = raw.outcome(1).await?;
        ensure!(seen == Outcome::GoAway(11), "{entrance:?}: {seen:?}");
        ensure!(world.refused(entrance, "head_size").await? == 1.0);
        ensure!(memory(world.proxy(entrance))? < 150_000);
        world.good().await?;
    }
    Ok(())
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused_and_the_others_go_on() -> Result<()> {
    let world = World::start("[limits]\nstreams = 8\n").await?;
    let port = world.port();
    let mut raw = world.enter(Entrance::Upstream).await?;
    raw.send(&hello(true)).await?;
    let mut posts = with(&[("weft-port", &port)]);
    posts[0].1 = "POST";
    for n in 0..9 {
        raw.send(&head(2 * n + 1, &posts, 0)).await?;
    }
    ensure!(raw.outcome(17).await? == Outcome::Reset(7), "the ninth is refused");
    raw.send(&frame(crate::wire::DATA, END_STREAM, 1, b"abc")).await?;
    ensure!(raw.outcome(1).await? == Outcome::Status(200), "the first is answered");
    ensure!(world.refused(Entrance::Upstream, "http2_streams").await? == 1.0);
    Ok(())
}

/// Five hundred PINGs in a window are allowed to nobody, so this peer asks slowly enough, and never reads.
#[tokio::test]
async fn answers_that_nobody_reads_are_not_piled_up() -> Result<()> {
    let world = World::start("").await?;
    let before = memory(&world.web)?;
    let mut raw = world.enter(Entrance::Upstream).await?;
    raw.send(&hello(true)).await?;
    for _ in 0..20 {
        let pings: Vec<u8> = (0..100).flat_map(|_| frame(PING, 0, 0, &[7; 8])).collect();
        if tokio::time::timeout(Duration::from_secs(1), raw.send(&pings)).await.is_err() {
            break;
        }
        world.good().await?;
        tokio::time::sleep(Duration::from_millis(550)).await;
    }
    ensure!(memory(&world.web)? < before + 20_000);
    world.good().await
}

#[tokio::test]
async fn a_peer_that_answers_no_ping_loses_its_connection() -> Result<()> {
    let world = World::start("").await?;
    let mut raw = world.enter(Entrance::Tunnel).await?;
    raw.send(&hello(true)).await?;
    // After 10 s it is asked, after 20 s more it is given up.
    let closed = async { while let Ok(Some(_)) = raw.frame().await {} };
    tokio::time::timeout(Duration::from_secs(45), closed).await?;
    world.good().await
}

/// The peer's window is 0 from the start and stays so.
#[tokio::test]
async fn a_stream_without_a_window_ends_after_the_idle_time_and_holds_little() -> Result<()> {
    let world = World::start("[timeouts]\nidle = \"3s\"\n").await?;
    let before = memory(&world.web)?;
    let mut raw = crate::wire::Raw::plain(world.web.upstream("api2")).await?;
    raw.send(&hello(true)).await?;
    raw.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])).await?;
    let mut big = HEAD;
    big[3].1 = "/big";
    for n in 0..50 {
        raw.send(&head(2 * n + 1, &big, END_STREAM)).await?;
    }
    for n in 0..50 {
        ensure!(raw.outcome_of(2 * n + 1).await? == Outcome::Status(200), "stream {n} is answered");
    }
    let held = memory(&world.web)?.saturating_sub(before);
    ensure!(held < 60_000, "50 streams hold {held} kB");
    for n in 0..50 {
        let seen = raw.outcome_of(2 * n + 1).await?;
        ensure!(matches!(seen, Outcome::Reset(_)), "stream {n}: {seen:?}");
    }
    eventually("the calls are over", async || {
        Ok((world.web.metric("weft_active", &[]).await? == 0.0).then_some(()))
    })
    .await?;
    // The connection is good for more.
    raw.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])).await?;
    raw.send(&frame(WINDOW_UPDATE, 0, 0, &[0, 1, 0, 0])).await?;
    raw.send(&head(201, &HEAD, END_STREAM)).await?;
    ensure!(raw.outcome_of(201).await? == Outcome::Status(200), "then a good one");
    eventually("the log says why", async || {
        let log = world.web.access_log();
        let why = "took nothing for timeouts.idle";
        let stalled = log.iter().filter(|line| line.to_string().contains(why)).count();
        ensure!(stalled == 50, "{stalled} lines say it");
        Ok(Some(()))
    })
    .await
}
