//! Floods of frames that cost and carry nothing: each is cut off, while good clients of the same proxy are answered.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::wire::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, Outcome, PADDED, PING, PRIORITY, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, block, frame, head, hello,
};
use crate::world::{Entrance, World, memory};

/// So many pieces, and no more.
const PIECES: u32 = 20_000;
/// The proxy may have grown to so many kilobytes by the end (a debug build starts with about 30,000).
const MEMORY: u64 = 150_000;

/// A flood: what is sent first, and each piece by its number.
struct Flood {
    name: &'static str,
    first: fn(&str) -> Vec<u8>,
    piece: fn(u32, &str) -> Vec<u8>,
    kind: &'static str,
}

fn nothing(_: &str) -> Vec<u8> {
    Vec::new()
}

fn open(port: &str) -> Vec<u8> {
    head(1, &fields("POST", port), 0)
}

fn fields<'a>(method: &'a str, port: &'a str) -> [(&'a str, &'a str); 5] {
    [(":method", method), (":scheme", "http"), (":authority", "api"), (":path", "/good"), ("weft-port", port)]
}

const FLOODS: [Flood; 16] = [
    Flood {
        name: "rapid reset",
        first: nothing,
        piece: |n, port| {
            let stream = 2 * n + 1;
            [head(stream, &fields("GET", port), END_STREAM), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])]
                .concat()
        },
        kind: "http2_reset",
    },
    Flood {
        name: "resets of one stream",
        first: open,
        piece: |_, _| frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]),
        kind: "http2_reset",
    },
    Flood { name: "PING", first: nothing, piece: |_, _| frame(PING, 0, 0, &[0; 8]), kind: "http2_ping" },
    Flood {
        name: "answers to no PING",
        first: nothing,
        piece: |_, _| frame(PING, ACK, 0, &[0; 8]),
        kind: "http2_ping",
    },
    Flood {
        name: "SETTINGS",
        first: nothing,
        piece: |_, _| frame(SETTINGS, 0, 0, &[]),
        kind: "http2_settings",
    },
    Flood {
        name: "SETTINGS that move every window",
        first: open,
        piece: |n, _| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, (n % 2) as u8, 0]),
        kind: "http2_settings",
    },
    Flood { name: "empty DATA", first: open, piece: |_, _| frame(DATA, 0, 1, &[]), kind: "http2_empty_data" },
    Flood {
        name: "DATA of padding",
        first: open,
        piece: |_, _| frame(DATA, PADDED, 1, &[200].into_iter().chain([0; 200]).collect::<Vec<u8>>()),
        kind: "http2_empty_data",
    },
    Flood {
        name: "CONTINUATION without end",
        first: |_| frame(HEADERS, 0, 1, &[]),
        piece: |_, _| frame(CONTINUATION, 0, 1, &[]),
        kind: "http2_continuation",
    },
    Flood {
        name: "long CONTINUATION without end",
        first: |_| frame(HEADERS, 0, 1, &[]),
        piece: |_, _| frame(CONTINUATION, 0, 1, &block(&[("x", &"y".repeat(10_000))])),
        kind: "http2_continuation",
    },
    Flood {
        name: "heads in crumbs",
        first: nothing,
        piece: |n, port| {
            let stream = 2 * n + 1;
            let mut bytes = frame(HEADERS, END_STREAM, stream, &block(&fields("GET", port)));
            for _ in 0..4 {
                bytes.extend(frame(CONTINUATION, 0, stream, &[]));
            }
            bytes.extend(frame(CONTINUATION, END_HEADERS, stream, &[]));
            bytes
        },
        kind: "http2_continuation",
    },
    Flood {
        name: "PRIORITY",
        first: nothing,
        piece: |_, _| frame(PRIORITY, 0, 3, &[0; 5]),
        kind: "http2_priority",
    },
    Flood {
        name: "the connection's window byte by byte",
        first: nothing,
        piece: |_, _| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        kind: "http2_window_update",
    },
    Flood {
        name: "a stream's window byte by byte",
        first: open,
        piece: |_, _| frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
        kind: "http2_window_update",
    },
    Flood {
        name: "unknown frames",
        first: nothing,
        piece: |_, _| frame(0xfa, 0, 0, &[1; 64]),
        kind: "http2_unknown_frame",
    },
    Flood {
        name: "malformed requests",
        first: nothing,
        piece: |n, _| head(2 * n + 1, &[(":method", "GET")], END_STREAM),
        kind: "http2_message",
    },
];

#[tokio::test]
async fn each_flood_is_cut_off_while_good_clients_are_answered() -> Result<()> {
    let world = World::start("").await?;
    let mut wrong = Vec::new();
    for flood in &FLOODS {
        for entrance in [Entrance::Upstream, Entrance::Tunnel] {
            if let Err(error) = run(&world, flood, entrance).await {
                wrong.push(format!("{} ({entrance:?}): {error:#}", flood.name));
            }
        }
    }
    ensure!(wrong.is_empty(), "{} floods:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

async fn run(world: &World, flood: &Flood, entrance: Entrance) -> Result<()> {
    let before = world.refused(entrance, flood.kind).await?;
    let mut raw = world.enter(entrance).await?;
    let port = world.port();
    raw.send(&[hello(true), (flood.first)(&port)].concat()).await?;
    let piece = flood.piece;
    // Many frames in one write, as a flooder would.
    let pieces = (0..PIECES / 50).map(move |n| (0..50).flat_map(|m| piece(1 + n * 50 + m, &port)).collect());
    let flooding = tokio::spawn(raw.flood(pieces));
    let (mut answered, mut slowest) = (0, Duration::ZERO);
    while answered < 3 || !flooding.is_finished() {
        let start = Instant::now();
        world.good().await.context("a good request during the flood")?;
        slowest = slowest.max(start.elapsed());
        answered += 1;
    }
    let (outcome, sent) = flooding.await??;
    ensure!(outcome == Outcome::GoAway(11), "{outcome:?} after {sent} writes");
    let counted = world.refused(entrance, flood.kind).await? - before;
    ensure!(counted >= 1.0, "nothing was counted as {}", flood.kind);
    let kilobytes = memory(world.proxy(entrance))?;
    ensure!(kilobytes < MEMORY, "the proxy has {kilobytes} kB");
    println!(
        "{} ({entrance:?}): cut after {} of {PIECES} pieces, {answered} good requests, slowest {slowest:?}, {kilobytes} kB",
        flood.name,
        sent * 50
    );
    Ok(())
}
