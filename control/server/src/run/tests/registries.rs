//! Registries that are away.

use super::*;

#[tokio::test]
async fn what_a_registry_said_before_a_restart_is_served_while_it_is_away() {
    let directory = Mesh::started("").await.stop().await;
    std::fs::rename(directory.path().join("services"), directory.path().join("away")).unwrap();
    std::fs::create_dir(directory.path().join("services")).unwrap();
    let mesh = Mesh::start(directory, "[ready]\nregistry_deadline = \"200ms\"");
    // Not there at all, which is another thing than empty.
    std::fs::remove_dir(mesh.directory.path().join("services")).unwrap();
    let status = mesh.until("it is ready", |status| status.control_plane.ready).await;
    assert_eq!((status.control_plane.services, status.control_plane.workloads), (1, 1), "{status:?}");
    assert_ne!(status.registries[0].state, RegistryState::Synced);
    std::fs::rename(mesh.directory.path().join("away"), mesh.directory.path().join("services")).unwrap();
    mesh.until("it is back", |status| status.registries[0].state == RegistryState::Synced).await;
    mesh.stop().await;
}

#[tokio::test]
async fn a_registry_that_does_not_answer_is_waited_for_until_its_deadline() {
    let consul = "[ready]\nregistry_deadline = \"1s\"\n[[registry]]\nid = \"consul/dc1\"\n\
                  [registry.consul]\naddress = \"http://127.0.0.1:1\"";
    let mesh = Mesh::start(tempfile::tempdir().unwrap(), consul);
    let early = mesh.until("it answers", |_| true).await;
    assert!(!early.control_plane.ready);
    let (status, body) = ask(&mesh.socket(), "GET", "/ready", "").await.unwrap();
    assert_eq!(status, 503);
    assert!(String::from_utf8_lossy(&body).contains("consul/dc1"), "{body:?}");
    let status = mesh.until("it is ready", |status| status.control_plane.ready).await;
    let states: Vec<RegistryState> = status.registries.iter().map(|registry| registry.state).collect();
    assert_eq!(states, [RegistryState::Stale, RegistryState::Synced]);
    assert!(status.control_plane.notes[0].contains("consul/dc1"), "{:?}", status.control_plane.notes);
    mesh.stop().await;
}

#[tokio::test]
async fn a_cluster_that_can_not_be_reached_says_why_and_keeps_the_others_from_nothing() {
    let cluster = "[ready]\nregistry_deadline = \"100ms\"\n[[registry]]\nid = \"kubernetes/prod\"\n\
                   [registry.kubernetes]\nkubeconfig = \"/no/such/kubeconfig\"";
    let mesh = Mesh::started(cluster).await;
    let stale =
        |status: &Status| status.registries.iter().any(|registry| registry.state == RegistryState::Stale);
    let status = mesh.until("the cluster is stale", stale).await;
    let text = serde_json::to_string(&status).unwrap();
    assert!(text.contains("kubernetes/prod") && text.contains("/no/such/kubeconfig"), "{text}");
    mesh.stop().await;
}

#[tokio::test]
async fn while_a_registry_was_never_heard_a_proxy_keeps_what_it_holds_and_the_status_says_why() {
    let consul = "[ready]\nregistry_deadline = \"100ms\"\n[[registry]]\nid = \"consul/dc1\"\n\
                  [registry.consul]\naddress = \"http://127.0.0.1:1\"";
    let mesh = Mesh::started(consul).await;
    let proxy = mesh.join("default/web").await;
    let (requests, receiver) = mpsc::channel(8);
    for (kind, held) in
        [(ResourceType::Workload, "consul/dc1/n/api-9"), (ResourceType::Service, "default/pay")]
    {
        let mut request = subscribe(NODE, kind, "default/pay");
        request.initial_resource_versions.insert(held.to_owned(), "0".repeat(32));
        requests.send(request).await.unwrap();
    }
    let mut following = Following { requests, ..proxy.stream(receiver).await.unwrap() };
    let told = |status: &Status| status.proxies.first().is_some_and(|proxy| proxy.reasons.len() == 2);
    let status = mesh.until("it is told what is undecided", told).await;
    assert_eq!(status.proxies[0].sync, ProxySync::InSync);
    let reasons = status.proxies[0].reasons.join("\n");
    assert!(reasons.contains("1 of Service are undecided until consul/dc1 is heard"), "{reasons}");
    let notes = status.control_plane.notes.join("\n");
    assert!(notes.contains("nothing is known of consul/dc1: proxies keep what they have"), "{notes}");
    let nothing = tokio::time::timeout(Duration::from_millis(300), following.responses.message()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    drop(following);
    mesh.stop().await;
}
