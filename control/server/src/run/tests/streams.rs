//! A proxy from joining to shutdown, and proxies that err.

use super::*;

#[tokio::test]
async fn a_proxy_joins_follows_and_is_shown() {
    let mesh = Mesh::started("").await;
    let proxy = mesh.join("default/web").await;
    let mut following = proxy.follow(NODE).await;
    let workloads = following.acked().await;
    assert_eq!(workloads.type_url, ResourceType::Workload.url());
    assert_eq!(workloads.resources.len(), 1);
    let services = following.acked().await;
    assert_eq!(services.resources[0].name, "default/api");
    let in_sync = |status: &Status| status.proxies.iter().any(|proxy| proxy.sync == ProxySync::InSync);
    let status = mesh.until("the proxy is in sync", in_sync).await;
    assert_eq!(status.proxies[0].name, NODE);
    assert_eq!(status.proxies[0].subscriptions, 1);
    let dump: ProxyDump = mesh.get(&path::of(path::PROXIES, NODE)).await;
    assert_eq!(dump.types.iter().map(|one| one.held).sum::<usize>(), 2);

    // A change arrives, and convergence is measured.
    let file = mesh.directory.path().join("services/api.yaml");
    std::fs::write(&file, SERVICES.replace("health: healthy", "health: unhealthy")).unwrap();
    assert_eq!(following.acked().await.type_url, ResourceType::Workload.url());
    let key: ServiceKey = "api".parse().unwrap();
    mesh.until("the proxy is in sync again", in_sync).await;
    let (_, metrics) = ask(&mesh.socket(), "GET", "/metrics", "").await.unwrap();
    let metrics = String::from_utf8(metrics.to_vec()).unwrap();
    assert!(metrics.contains("weft_control_convergence_seconds_count 1\n"), "{metrics}");
    assert!(metrics.contains("weft_control_proxies 1\n"), "{metrics}");
    let snapshot: SnapshotView = mesh.get(path::SNAPSHOT).await;
    assert_eq!((snapshot.services[0].key.clone(), snapshot.revision), (key, 2));

    drop(following);
    mesh.until("the proxy is gone", |status| status.proxies.is_empty()).await;
    mesh.stop().await;
}

#[tokio::test]
async fn nobody_gets_the_place_of_another() {
    let mesh = Mesh::started("").await;
    let proxy = mesh.join("default/web").await;
    let mut following = proxy.follow("spiffe://mesh.test/ns/default/sa/api~api-1").await;
    assert_eq!(following.next().await.unwrap_err().code(), Code::PermissionDenied);
    assert!(mesh.status().await.unwrap().proxies.is_empty());

    // Without a certificate there is no stream at all, though there is a connection, for the CA.
    let status = mesh.status().await.unwrap();
    let pin = status.control_plane.roots[0].sha256.parse().unwrap();
    let tls = pinned_client_config(&[pin], CONTROL_PLANE_PATH, &[b"h2"]).unwrap();
    let mut client = AggregatedDiscoveryServiceClient::new(connect(status.control_plane.listen, tls).await);
    let refused = client.delta_aggregated_resources(tokio_stream::iter([subscribe(
        NODE,
        ResourceType::Service,
        "api",
    )]));
    assert_eq!(refused.await.unwrap_err().code(), Code::Unauthenticated);
    mesh.stop().await;
}

#[tokio::test]
async fn a_shutdown_ends_streams_and_a_restart_resends_nothing() {
    let mesh = Mesh::started("").await;
    let proxy = mesh.join("default/web").await;
    let mut following = proxy.follow(NODE).await;
    let mut held = std::collections::HashMap::new();
    for _ in 0..2 {
        let response = following.acked().await;
        let versions = response.resources.into_iter().map(|one| (one.name, one.version));
        held.insert(response.type_url, versions.collect::<std::collections::HashMap<_, _>>());
    }
    let stopping = tokio::spawn(mesh.stop());
    assert_eq!(following.next().await.unwrap_err().code(), Code::Unavailable);
    let directory = stopping.await.unwrap();

    let mesh = Mesh::start(directory, "");
    let status = mesh.until("it is ready again", |status| status.control_plane.ready).await;
    let proxy = Proxy { address: status.control_plane.listen, ..proxy };
    let (requests, receiver) = mpsc::channel(8);
    for kind in [ResourceType::Workload, ResourceType::Service] {
        let again = DeltaDiscoveryRequest {
            initial_resource_versions: held.remove(kind.url()).unwrap(),
            ..subscribe(NODE, kind, "default/api")
        };
        requests.send(again).await.unwrap();
    }
    let mut following = proxy.stream(receiver).await.unwrap();
    mesh.until("the proxy is in sync", |status| {
        status.proxies.iter().any(|one| one.sync == ProxySync::InSync)
    })
    .await;
    let nothing = tokio::time::timeout(Duration::from_millis(300), following.responses.message()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    drop((following, requests));
    mesh.stop().await;
}

#[tokio::test]
async fn a_refused_resource_is_shown_with_the_proxys_words() {
    let mesh = Mesh::started("").await;
    let proxy = mesh.join("default/web").await;
    let mut following = proxy.follow(NODE).await;
    let response = following.next().await.unwrap();
    let error =
        weft_proto::discovery::Status { code: 3, message: "not understood".to_owned(), details: Vec::new() };
    let nack = DeltaDiscoveryRequest {
        type_url: response.type_url,
        response_nonce: response.nonce,
        error_detail: Some(error),
        ..DeltaDiscoveryRequest::default()
    };
    following.requests.send(nack).await.unwrap();
    let refused = |status: &Status| status.proxies.iter().any(|proxy| proxy.sync == ProxySync::Refused);
    let status = mesh.until("the refusal is shown", refused).await;
    let reasons = status.proxies[0].reasons.join("\n");
    assert!(reasons.contains("file/local/api-v1") && reasons.contains("not understood"), "{reasons}");
    drop(following);
    mesh.stop().await;
}

#[tokio::test]
async fn a_stream_that_breaks_the_protocol_is_ended_with_a_reason() {
    let mesh = Mesh::started("").await;
    let proxy = mesh.join("default/web").await;
    for (request, code) in [
        (
            DeltaDiscoveryRequest { node: None, ..subscribe(NODE, ResourceType::Service, "a") },
            Code::InvalidArgument,
        ),
        (subscribe("not a node", ResourceType::Service, "a"), Code::InvalidArgument),
        (
            DeltaDiscoveryRequest { type_url: "x".to_owned(), ..subscribe(NODE, ResourceType::Service, "a") },
            Code::InvalidArgument,
        ),
    ] {
        let (requests, receiver) = mpsc::channel(8);
        requests.send(request).await.unwrap();
        let mut following = proxy.stream(receiver).await.unwrap();
        let status = following.next().await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
    }
    assert!(mesh.status().await.unwrap().proxies.is_empty());
    mesh.stop().await;
}
