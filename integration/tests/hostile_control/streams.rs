//! Requests that no honest client sends: each ends its own stream, with the right code, and is counted by its reason.

use anyhow::{Context, Result, ensure};
use prost::Message;
use tonic::Code;
use weft_integration::eventually;
use weft_proto::discovery::{Any, DeltaDiscoveryRequest, Status as WireStatus};
use weft_proto::mesh::v1::{ResourceError, ResourceErrors};
use weft_proto::{RESOURCE_ERRORS_URL, ResourceType};

use crate::world::{Client, World};

const REFUSED: &str = "weft_control_streams_refused_total";

/// A first request, the code that ends its stream, and the reason that is counted.
struct Row {
    what: &'static str,
    change: fn(&mut DeltaDiscoveryRequest),
    code: Code,
    reason: &'static str,
}

const ROWS: &[Row] = &[
    Row {
        what: "another's node id",
        change: |request| {
            request.node.get_or_insert_default().id = "spiffe://test.weft/ns/default/sa/admin~1".to_owned();
        },
        code: Code::PermissionDenied,
        reason: "another_identity",
    },
    Row {
        what: "no node",
        change: |request| request.node = None,
        code: Code::InvalidArgument,
        reason: "protocol",
    },
    Row {
        what: "a node id of a megabyte",
        change: |request| request.node.get_or_insert_default().id = "x".repeat(1 << 20),
        code: Code::InvalidArgument,
        reason: "protocol",
    },
    Row {
        what: "everything",
        change: |request| request.resource_names_subscribe = vec!["*".to_owned()],
        code: Code::InvalidArgument,
        reason: "protocol",
    },
    Row {
        what: "a type url of a megabyte",
        change: |request| request.type_url = "x".repeat(1 << 20),
        code: Code::InvalidArgument,
        reason: "protocol",
    },
    Row {
        what: "no type url",
        change: |request| request.type_url.clear(),
        code: Code::InvalidArgument,
        reason: "protocol",
    },
    Row {
        what: "a name that nothing has",
        change: |request| request.resource_names_subscribe = vec!["x".repeat(1025)],
        code: Code::InvalidArgument,
        reason: "protocol",
    },
    Row {
        what: "10,001 names",
        change: |request| request.resource_names_subscribe = (0..10_001).map(|n| format!("a/{n}")).collect(),
        code: Code::ResourceExhausted,
        reason: "limit",
    },
    Row {
        what: "a million empty names",
        change: |request| request.resource_names_subscribe = vec![String::new(); 1_000_000],
        code: Code::ResourceExhausted,
        reason: "too_fast",
    },
    Row {
        what: "more than a megabyte of names",
        change: |request| {
            request.resource_names_subscribe = (0..1100).map(|n| format!("{n:01000}")).collect();
        },
        code: Code::ResourceExhausted,
        reason: "limit",
    },
    Row {
        what: "65,537 versions held",
        change: |request| {
            request.initial_resource_versions = (0..65_537).map(|n| (n.to_string(), String::new())).collect();
        },
        code: Code::ResourceExhausted,
        reason: "limit",
    },
    Row {
        what: "a request of 5 MiB",
        change: |request| request.resource_names_subscribe = vec!["x".repeat(5 << 20)],
        code: Code::ResourceExhausted,
        reason: "message",
    },
];

#[tokio::test]
async fn each_bad_request_ends_its_own_stream_with_the_right_code() -> Result<()> {
    let world = World::start("").await?;
    let (evil, good) = (world.member("default/evil").await?, world.member("default/web").await?);
    let mut good = good.stream("good").await?;
    good.subscribe(ResourceType::Workload, &["default/api"]).await;
    let first = good.next().await?;
    good.acknowledge(&first).await;
    for Row { what, change, code, reason } in ROWS {
        let before = world.metric(REFUSED, &format!("\"{reason}\"")).await?;
        let mut client = evil.stream("row").await?;
        let mut request = client.request(ResourceType::Service);
        change(&mut request);
        client.send(request).await;
        let status = client.end(true).await.with_context(|| (*what).to_owned())?;
        ensure!(status.code() == *code, "{what}: {status}");
        ensure!(status.message().len() < 2048, "{what}: it is told {} bytes", status.message().len());
        world.counted(REFUSED, reason, before).await.with_context(|| (*what).to_owned())?;
    }
    // The good client's stream is the one of before.
    world.register(1)?;
    ensure!(good.next().await?.resources.len() == 1);
    let log = std::fs::metadata(world.mesh.path().join("control.log"))?.len();
    ensure!(log < 200_000, "the log has {log} bytes");
    Ok(())
}

#[tokio::test]
async fn a_stream_without_certificate_or_first_request_is_ended() -> Result<()> {
    let world = World::start("").await?;
    let channel = weft_xds_client::connect(&world.mesh.address(), world.stranger_tls().await?).await?;
    let refused = Client::open(channel, String::new()).await.err().context("it was let in")?;
    let status = refused.downcast::<tonic::Status>()?;
    ensure!(status.code() == Code::Unauthenticated, "{status}");
    world.counted(REFUSED, "no_certificate", 0.0).await?;
    let mut silent = world.member("default/evil").await?.stream("silent").await?;
    let status = silent.end(true).await?;
    ensure!(status.code() == Code::DeadlineExceeded, "{status}");
    world.counted(REFUSED, "no_request", 0.0).await
}

#[tokio::test]
async fn who_asks_for_ever_or_never_acknowledges_is_ended() -> Result<()> {
    let world =
        World::start("[limits]\nack_timeout = \"2s\"\n[limits.requests]\nper_second = 10\nburst = 100\n")
            .await?;
    let evil = world.member("default/evil").await?;
    let mut hasty = evil.stream("hasty").await?;
    for n in 0..500 {
        let mut request = hasty.request(ResourceType::Service);
        let name = vec!["default/api".to_owned()];
        match n % 2 {
            0 => request.resource_names_subscribe = name,
            _ => request.resource_names_unsubscribe = name,
        }
        hasty.send(request).await;
    }
    let status = hasty.end(true).await?;
    ensure!(status.code() == Code::ResourceExhausted, "{status}");
    world.counted(REFUSED, "too_fast", 0.0).await?;

    let mut deaf = evil.stream("deaf").await?;
    deaf.subscribe(ResourceType::Service, &["default/api"]).await;
    let status = deaf.end(false).await?;
    ensure!(status.code() == Code::DeadlineExceeded, "{status}");
    world.counted(REFUSED, "not_acknowledged", 0.0).await
}

#[tokio::test]
async fn one_identity_has_its_share_of_streams_and_leaves_the_rest() -> Result<()> {
    let world = World::start("[limits]\nstreams_per_identity = 3\n").await?;
    let (evil, good) = (world.member("default/evil").await?, world.member("default/web").await?);
    let mut held = Vec::new();
    for n in 0..3 {
        held.push(evil.stream(&n.to_string()).await?);
    }
    let status =
        evil.stream("more").await.err().context("a fourth was let in")?.downcast::<tonic::Status>()?;
    ensure!(status.code() == Code::ResourceExhausted, "{status}");
    world.counted(REFUSED, "too_many_of_identity", 0.0).await?;
    let mut good = good.stream("good").await?;
    good.subscribe(ResourceType::Service, &["default/api"]).await;
    good.next().await?;
    Ok(())
}

#[tokio::test]
async fn megabytes_of_refusal_and_nonces_of_others_change_nothing() -> Result<()> {
    let world = World::start("").await?;
    let mut client = world.member("default/evil").await?.stream("wordy").await?;
    client.subscribe(ResourceType::Workload, &["default/api"]).await;
    let response = client.next().await?;
    let detail = |message: String, errors: Vec<ResourceError>| WireStatus {
        code: 3,
        message,
        details: vec![Any {
            type_url: RESOURCE_ERRORS_URL.to_owned(),
            value: ResourceErrors { errors }.encode_to_vec().into(),
        }],
    };
    // Nonces that were never given acknowledge nothing.
    for nonce in ["0", "2", "99", "x"] {
        let mut request = client.request(ResourceType::Workload);
        request.response_nonce = nonce.to_owned();
        request.error_detail = Some(detail("no".to_owned(), Vec::new()));
        client.send(request).await;
    }
    let mut request = client.request(ResourceType::Workload);
    request.response_nonce = response.nonce.clone();
    let name = response.resources.first().context("a resource")?.name.clone();
    let mut errors = vec![ResourceError::default(); 100_000];
    errors.push(ResourceError {
        resource_name: name,
        field_path: "x".repeat(1 << 20),
        reason: "y".repeat(1 << 20),
    });
    request.error_detail = Some(detail("z".repeat(1 << 20), errors));
    client.send(request).await;
    eventually("the refusal is shown, cut", async || {
        let said = world.mesh.admin("/v1/proxies").await?;
        ensure!(said[0]["sync"] == "refused", "{}", said.to_string().len());
        ensure!(said.to_string().len() < 8192, "it keeps {} bytes", said.to_string().len());
        Ok(Some(()))
    })
    .await?;
    ensure!(world.metric("weft_control_nacks_total", "").await? == 1.0);
    world.register(1)?;
    ensure!(client.next().await?.resources.len() == 1, "the stream goes on");
    Ok(())
}
