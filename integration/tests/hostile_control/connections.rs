//! Connections that are only held: silent before and after their handshake, without a certificate, with a bad one.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weft_integration::eventually;
use weft_proto::ResourceType;

use crate::frames::garbage;
use crate::world::World;

const REFUSED: &str = "weft_control_connections_refused_total";

#[tokio::test]
async fn strangers_have_their_share_of_connections_and_members_the_rest() -> Result<()> {
    let world = World::start("[limits.connections]\nstrangers = 6\nper_identity = 2\n").await?;
    let (evil, good) = (world.member("default/evil").await?, world.member("default/web").await?);
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(world.stranger().await?);
    }
    // Half of the places are for one address.
    eventually("the share is full", async || {
        // A connection that is let in is held: the one for `member` may not be gone yet.
        held.extend(world.stranger().await.ok());
        Ok((world.metric(REFUSED, "\"share\"").await? > 0.0).then_some(()))
    })
    .await?;
    let strangers = world.metric("weft_control_connections{", "stranger").await?;
    ensure!(strangers <= 3.0, "{strangers}");
    let before = world.metric(REFUSED, "\"share\"").await?;
    let (_first, _second) = (evil.raw().await?, evil.raw().await?);
    let mut third = evil.raw().await?;
    let _closed = third.read(&mut [0; 1]).await;
    world.counted(REFUSED, "share", before).await?;
    let mut good = good.stream("good").await?;
    good.subscribe(ResourceType::Service, &["default/api"]).await;
    good.next().await?;
    Ok(())
}

#[tokio::test]
async fn who_says_nothing_is_let_go() -> Result<()> {
    let world = World::start("").await?;
    let evil = world.member("default/evil").await?;
    let mut rows = Vec::new();
    // Before the handshake, in its middle, and after it.
    let silent = TcpStream::connect(world.mesh.address()).await?;
    let mut half = TcpStream::connect(world.mesh.address()).await?;
    half.write_all(&[22, 3, 1, 2, 0, 1, 0]).await?;
    for (what, mut stream) in [("silent", silent), ("half a hello", half)] {
        rows.push(tokio::spawn(async move {
            let read = tokio::time::timeout(Duration::from_secs(25), stream.read(&mut [0; 1024])).await;
            (what, read.is_ok())
        }));
    }
    let mut idle = evil.raw().await?;
    rows.push(tokio::spawn(async move {
        let mut all = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(25), idle.read_to_end(&mut all)).await;
        ("silent after its handshake", read.is_ok())
    }));
    garbage(&evil).await?;
    for row in rows {
        let (what, closed) = row.await?;
        ensure!(closed, "{what}: it is still open");
    }
    world.counted(REFUSED, "handshake_timeout", 1.0).await?;
    world.counted(REFUSED, "idle", 0.0).await
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused_at_the_handshake() -> Result<()> {
    let (world, other) = (World::start("").await?, World::start("").await?);
    let mut foreign = other.member("default/web").await?;
    foreign.address = world.mesh.address();
    let mine = world.member("default/web").await?;
    // The right roots, so that only the server has a reason.
    let foreign = foreign.with_bundles_of(&mine);
    let answer = async {
        let mut tls = foreign.raw().await?;
        tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
        tls.read_exact(&mut [0; 9]).await.context("refused")
    };
    ensure!(answer.await.is_err(), "a foreign certificate was let in");
    world.counted(REFUSED, "tls", 0.0).await
}
