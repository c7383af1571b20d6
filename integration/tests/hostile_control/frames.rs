//! What no gRPC library sends: compressed, lying and half messages, no window, opened and reset streams, floods.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;
use weft_integration::eventually;
use weft_proto::ResourceType;
use weft_proto::discovery::{DeltaDiscoveryRequest, Node};

use crate::world::{Member, World};

const REFUSED: &str = "weft_control_streams_refused_total";
const STREAM: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// An HTTP/2 connection made by hand.
pub(crate) struct Raw {
    send: SendRequest<Bytes>,
    connection: tokio::task::JoinHandle<Result<(), h2::Error>>,
}

impl Raw {
    pub(crate) async fn open(member: &Member, window: Option<u32>) -> Result<Self> {
        let mut builder = Builder::new();
        if let Some(window) = window {
            builder.initial_window_size(window);
        }
        let (send, connection) = builder.handshake(member.raw().await?).await?;
        Ok(Self { send, connection: tokio::spawn(connection) })
    }

    pub(crate) async fn stream(
        &mut self,
        headers: &[(&'static str, &'static str)],
    ) -> Result<(h2::client::ResponseFuture, SendStream<Bytes>)> {
        let mut request = Request::post(format!("http://control{STREAM}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send = self.send.clone().ready().await?;
        Ok(self.send.send_request(request.body(())?, false)?)
    }

    /// What is said to a stream that begins with these bytes.
    pub(crate) async fn answer(
        &mut self,
        headers: &[(&'static str, &'static str)],
        bytes: Bytes,
    ) -> Result<Code> {
        let (response, mut body) = self.stream(headers).await?;
        // The refusal may come before all of it is sent.
        let sending = tokio::spawn(async move {
            body.reserve_capacity(bytes.len());
            let sent = body.send_data(bytes, false);
            std::future::pending::<()>().await;
            drop((sent, body));
        });
        let code = tokio::time::timeout(weft_integration::PATIENCE, status(response)).await;
        sending.abort();
        code.context("no answer")?
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

async fn status(response: h2::client::ResponseFuture) -> Result<Code> {
    let response = response.await?;
    if let Some(code) = code(response.headers()) {
        return Ok(code);
    }
    let mut body: RecvStream = response.into_body();
    while let Some(data) = body.data().await {
        body.flow_control().release_capacity(data?.len())?;
    }
    body.trailers().await?.as_ref().and_then(code).context("no grpc-status")
}

fn code(headers: &HeaderMap) -> Option<Code> {
    Some(Code::from_bytes(headers.get("grpc-status")?.as_bytes()))
}

/// A gRPC message with a head that may lie.
pub(crate) fn framed(flag: u8, announced: usize, bytes: &[u8]) -> Bytes {
    let announced = u32::try_from(announced).unwrap_or(u32::MAX).to_be_bytes();
    [&[flag], announced.as_slice(), bytes].concat().into()
}

pub(crate) fn subscription(node: &str) -> Bytes {
    let request = DeltaDiscoveryRequest {
        node: Some(Node { id: node.to_owned(), ..Node::default() }),
        type_url: ResourceType::Workload.url().to_owned(),
        resource_names_subscribe: vec!["default/api".to_owned()],
        ..Default::default()
    };
    let bytes = request.encode_to_vec();
    framed(0, bytes.len(), &bytes)
}

/// A length-delimited field of protobuf.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encoding::encode_varint(bytes.len() as u64, &mut field);
    field.extend(bytes);
    field
}

/// 4 MiB of zeros in some 4 kB, 500 times over: what a decompressor would make 2 GB of.
fn bomb() -> Vec<u8> {
    vec![0; 4096]
}

#[tokio::test]
async fn messages_that_lie_are_refused_at_their_head() -> Result<()> {
    let world = World::start("").await?;
    let evil = world.member("default/evil").await?;
    type Row = (&'static str, &'static [(&'static str, &'static str)], Bytes, Code, bool);
    let rows: [Row; 7] = [
        ("gzip, said", &[("grpc-encoding", "gzip")], framed(1, 4096, &bomb()), Code::Unimplemented, false),
        (
            "deflate, said",
            &[("grpc-encoding", "deflate")],
            framed(1, 4096, &bomb()),
            Code::Unimplemented,
            false,
        ),
        ("zstd, said", &[("grpc-encoding", "zstd")], framed(1, 4096, &bomb()), Code::Unimplemented, false),
        ("compressed, not said", &[], framed(1, 4096, &bomb()), Code::Unimplemented, true),
        ("4 GiB announced", &[], framed(0, usize::MAX, b"x"), Code::ResourceExhausted, true),
        ("another flag", &[], framed(9, 1, b"x"), Code::Internal, true),
        ("no protobuf", &[], framed(0, 3, &[0xff; 3]), Code::Internal, true),
    ];
    for (what, headers, bytes, code, counted) in rows {
        let before = world.metric(REFUSED, "\"message\"").await?;
        let said = Raw::open(&evil, None).await?.answer(headers, bytes).await.context(what)?;
        ensure!(said == code, "{what}: {said:?}");
        if counted {
            world.counted(REFUSED, "message", before).await.context(what)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_half_message_is_waited_for_ten_seconds_and_unknown_fields_are_not_kept() -> Result<()> {
    let world = World::start("").await?;
    let evil = world.member("default/evil").await?;
    let half = Raw::open(&evil, None).await?.answer(&[], framed(0, 1000, &[b'x'; 500])).await?;
    ensure!(half == Code::DeadlineExceeded, "{half:?}");
    // 3 MB of metadata in the node (a google.protobuf.Struct of one string), and an unknown field beside it.
    let text = field(3, &vec![b'm'; 3 << 20]);
    let metadata = field(1, &[field(1, b"m"), field(2, &text)].concat());
    let id = field(1, evil.node("fat").as_bytes());
    let node = field(1, &[id, field(3, &metadata), field(15, &[b'u'; 100_000])].concat());
    let request = [node, field(2, ResourceType::Service.url().as_bytes())].concat();
    let mut raw = Raw::open(&evil, None).await?;
    let (response, mut body) = raw.stream(&[]).await?;
    body.send_data(framed(0, request.len(), &request), false)?;
    let response = response.await?;
    ensure!(response.status() == 200);
    eventually("it is connected", async || {
        let said = world.mesh.admin("/v1/proxies").await?;
        let log = || std::fs::read_to_string(world.mesh.path().join("control.log")).unwrap_or_default();
        ensure!(said.to_string().contains("~fat"), "{said}, {}", log());
        ensure!(said.to_string().len() < 4096, "its metadata is kept");
        Ok(Some(()))
    })
    .await
}

#[tokio::test]
async fn who_gives_no_window_loses_the_connection() -> Result<()> {
    let world = World::start("[limits]\nack_timeout = \"2s\"\n").await?;
    let evil = world.member("default/evil").await?;
    let mut raw = Raw::open(&evil, Some(0)).await?;
    let (_response, mut body) = raw.stream(&[]).await?;
    body.send_data(subscription(&evil.node("shut")), false)?;
    world.counted(REFUSED, "not_read", 0.0).await.context("no window at all")?;
    eventually("the connection is closed", async || Ok(raw.connection.is_finished().then_some(()))).await?;
    // With a window for one response, and never more.
    let mut raw = Raw::open(&evil, Some(64)).await?;
    let (response, mut body) = raw.stream(&[]).await?;
    body.send_data(subscription(&evil.node("slow")), false)?;
    let _unread = response.await?;
    // Whether it is pulled once more depends on what HTTP/2 has room for: it ends itself, or is ended.
    eventually("the slow one is ended", async || {
        let ended = world.metric(REFUSED, "\"not_").await?;
        Ok((ended > 1.0 && world.mesh.admin("/v1/proxies").await?.as_array().is_some_and(Vec::is_empty))
            .then_some(()))
    })
    .await
}

#[tokio::test]
async fn streams_that_are_opened_and_reset_cost_their_connection() -> Result<()> {
    let world = World::start("").await?;
    let evil = world.member("default/evil").await?;
    let mut raw = Raw::open(&evil, None).await?;
    let ended = tokio::time::timeout(weft_integration::PATIENCE, async {
        loop {
            match raw.stream(&[]).await {
                Ok((_response, mut body)) => body.send_reset(Reason::CANCEL),
                Err(error) => return error,
            }
            // The connection's task has the same thread.
            tokio::task::yield_now().await;
        }
    });
    ended.await.context("it goes on for ever")?;
    ensure!(world.mesh.admin("/v1/proxies").await?.as_array().is_some_and(Vec::is_empty));
    Ok(())
}

#[tokio::test]
async fn floods_of_frames_end_their_connection_or_are_answered_one_by_one() -> Result<()> {
    let world = World::start("").await?;
    let (evil, good) = (world.member("default/evil").await?, world.member("default/web").await?);
    let mut good = good.stream("good").await?;
    good.subscribe(ResourceType::Workload, &["default/api"]).await;
    let first = good.next().await?;
    good.acknowledge(&first).await;
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    // HEADERS without END_HEADERS on stream 1, then CONTINUATION without end: an empty one each.
    let headers = [0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82];
    let continuation = [0, 0, 1, 9, 0, 0, 0, 0, 1, 0x86];
    let window = [0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let rows: [(&str, &[u8], &[u8]); 4] = [
        ("PING that is not read back", &[], &ping),
        ("SETTINGS", &[], &settings),
        ("CONTINUATION", &headers, &continuation),
        ("WINDOW_UPDATE of 0", &[], &window),
    ];
    for (n, (what, first, again)) in rows.into_iter().enumerate() {
        let mut tls = evil.raw().await?;
        tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
        tls.write_all(&settings).await?;
        tls.write_all(first).await?;
        let many = again.repeat(1000);
        // Nothing is read: an answer to each must not be kept for us.
        let mut sent = 0_u32;
        let writing = async {
            while sent < 2000 && tls.write_all(&many).await.is_ok() && tls.flush().await.is_ok() {
                sent += 1;
            }
        };
        let stuck = tokio::time::timeout(Duration::from_secs(3), writing).await.is_err();
        println!(
            "{what}: {} frames, {}",
            sent * 1000,
            if stuck { "then it took no more" } else { "closed or taken" }
        );
        drop(tls);
        // Others are served meanwhile.
        world.register(n + 1)?;
        let changed = tokio::time::timeout(weft_integration::PATIENCE, good.next()).await.context(what)??;
        good.acknowledge(&changed).await;
    }
    let rss = resident(&world, "VmHWM").await?;
    ensure!(rss < 512 << 10, "the floods cost {rss} kB");
    Ok(())
}

/// A figure of `/proc/PID/status` of the control plane, in kB.
pub(crate) async fn resident(world: &World, which: &str) -> Result<u64> {
    let listing = world.mesh.pid()?;
    let text = std::fs::read_to_string(format!("/proc/{listing}/status"))?;
    let line = text.lines().find(|line| line.starts_with(which)).context("a line")?;
    let digits: String = line.chars().filter(char::is_ascii_digit).collect();
    Ok(digits.parse()?)
}

/// What is left of a connection after garbage.
pub(crate) async fn garbage(member: &Member) -> Result<()> {
    let mut tls = member.raw().await?;
    tls.write_all(b"GET / HTTP/1.1\r\nhost: control\r\n\r\n").await?;
    let mut answer = Vec::new();
    match tokio::time::timeout(Duration::from_secs(10), tls.read_to_end(&mut answer)).await {
        Ok(_) => Ok(()),
        Err(_) => bail!("HTTP/1 is kept open"),
    }
}
