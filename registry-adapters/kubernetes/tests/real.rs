//! The adapter on a real API server: what the server itself decides, as rights, versions, defaults and streamed lists.

#![allow(clippy::unwrap_used, reason = "what is not as expected here fails the test")]

mod support;

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use support::{objects, real, watching::follow};
use weft_model::{Health, Prefer, ServiceKey, Tunnel};
use weft_registry::State;
use weft_registry::testkit::Watching;
use weft_registry_kubernetes::testkit::{ApiServer, User};
use weft_registry_kubernetes::{KubernetesSettings, NamespaceSettings, connect};

/// A server with the namespace `shop`; `None`, and a line on stderr, where there are no binaries.
async fn server() -> Option<ApiServer> {
    let server = ApiServer::start().await.unwrap()?;
    real::prepare(&server, "shop").await;
    Some(server)
}

async fn put_slice(server: &ApiServer, name: &str, service: &str, pods: &[(&str, &str, &str)]) {
    let plain: Vec<(&str, &str, bool)> = pods.iter().map(|(pod, ip, _)| (*pod, *ip, true)).collect();
    let mut slice = objects::slice("shop", name, service, 8080, &plain);
    for (i, (_, _, uid)) in pods.iter().enumerate() {
        slice["endpoints"][i]["targetRef"]["uid"] = json!(uid);
    }
    server.put(&real::slices("shop"), &slice).await.unwrap();
}

/// `shop/api` with the pods `a` and `b`. Returns their uids.
async fn with_two_pods(server: &ApiServer) -> [String; 2] {
    server.put("/api/v1/nodes", &objects::node("node-1", "eu", "1")).await.unwrap();
    real::put_service(server, "shop", "api", 80).await;
    let uids = [
        real::put_pod(server, "shop", "a", "10.1.0.1").await,
        real::put_pod(server, "shop", "b", "10.1.0.2").await,
    ];
    put_slice(server, "api-1", "api", &[("a", "10.1.0.1", &uids[0]), ("b", "10.1.0.2", &uids[1])]).await;
    uids
}

async fn synced(server: &ApiServer) -> Watching {
    let mut watching = follow(server.settings(User::Weft).unwrap());
    watching.until_members("shop/api", 2).await;
    watching
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_cluster_s_objects_become_services_and_instances() {
    let Some(server) = server().await else { return };
    let [a, _] = with_two_pods(&server).await;
    let mut watching = synced(&server).await;
    watching.until_synced().await;
    let snapshot = watching.catalog.snapshot();
    let service = snapshot.service(&"shop/api".parse().unwrap()).unwrap();
    assert!(
        service.addresses.iter().next().unwrap().to_string().starts_with("default/10.96."),
        "{service:?}"
    );
    let one = snapshot.workload(&format!("pod/{a}").parse().unwrap()).unwrap();
    assert_eq!(one.identity.as_ref().unwrap().as_str(), "spiffe://weft.test/ns/shop/sa/sa");
    assert_eq!((one.tunnel, one.health), (Tunnel::Port(15008), Health::Healthy));
    assert_eq!(one.locality.to_string(), "eu/1");
    assert!(snapshot.service(&"default/kubernetes".parse::<ServiceKey>().unwrap()).is_none());
    assert_eq!(watching.problems(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_and_ends_arrive_and_a_second_life_of_a_name_is_another_instance() {
    let Some(server) = server().await else { return };
    let [a, b] = with_two_pods(&server).await;
    let mut watching = synced(&server).await;
    server.delete("/api/v1/namespaces/shop/pods/a").await.unwrap();
    watching.until_members("shop/api", 1).await;
    // Under the same name, at the same address, without a proxy and before the slice knows.
    let again = real::put_pod(&server, "shop", "a", "10.1.0.1").await;
    assert_ne!(a, again);
    watching.during(Duration::from_millis(500)).await;
    assert_eq!(watching.members("shop/api"), [format!("pod/{b}")]);
    put_slice(&server, "api-1", "api", &[("a", "10.1.0.1", &again), ("b", "10.1.0.2", &b)]).await;
    watching.until_members("shop/api", 2).await;
    assert!(!watching.members("shop/api").contains(&format!("pod/{a}")));
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_missing_are_named_and_the_rest_goes_on() {
    let Some(server) = server().await else { return };
    with_two_pods(&server).await;
    real::allow_but(&server, &["nodes", "pods"]).await;
    let mut watching = synced(&server).await;
    watching.until("two problems", |w| w.problems().len() == 2).await;
    let problems = watching.problems();
    assert!(
        problems[0].starts_with("nodes: permission denied") && problems[1].contains("cannot"),
        "{problems:#?}"
    );
    assert!(watching.workloads().iter().all(|workload| workload.identity.is_none()));
    assert_eq!(watching.state(), State::Synced);
    real::allow(&server).await;
    watching.until("no problem", |w| w.problems().is_empty()).await;
    watching.until("identities", |w| w.workloads().iter().all(|workload| workload.identity.is_some())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_loses_nothing_and_is_followed_again() {
    let Some(mut server) = server().await else { return };
    with_two_pods(&server).await;
    let mut watching = synced(&server).await;
    server.kill();
    watching.until("stale", |w| w.state() == State::Stale).await;
    assert_eq!(watching.members("shop/api").len(), 2);
    server.restart().await.unwrap();
    server.delete("/api/v1/namespaces/shop/pods/b").await.unwrap();
    watching.until_members("shop/api", 1).await;
    watching.until_synced().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_are_selected_by_their_labels() {
    let Some(server) = server().await else { return };
    with_two_pods(&server).await;
    let namespaces = NamespaceSettings {
        selector: Some("mesh=on,stage!=test".to_owned()),
        ..NamespaceSettings::default()
    };
    let settings = KubernetesSettings { namespaces, ..server.settings(User::Weft).unwrap() };
    let mut watching = follow(settings);
    watching.until_synced().await;
    assert!(watching.workloads().is_empty());
    let label = async |value: Value| {
        let patch = json!({"metadata": {"labels": {"mesh": value}}});
        server.send(Method::PATCH, "/api/v1/namespaces/shop", &patch).await.unwrap();
    };
    label(json!("on")).await;
    watching.until_members("shop/api", 2).await;
    label(Value::Null).await;
    watching.until("nothing", |w| w.workloads().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selector_that_the_server_does_not_understand_is_said() {
    let Some(server) = server().await else { return };
    let namespaces =
        NamespaceSettings { selector: Some("a in (".to_owned()), ..NamespaceSettings::default() };
    let settings = KubernetesSettings { namespaces, ..server.settings(User::Weft).unwrap() };
    let mut watching = follow(settings);
    watching.until("stale", |w| w.state() == State::Stale).await;
    assert!(watching.error().contains("namespaces: status 400"), "{}", watching.error());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_authority_is_not_trusted() {
    let Some(server) = server().await else { return };
    let settings = server.settings(User::Weft).unwrap();
    let path = settings.kubeconfig.clone().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    // The server's own certificate is no authority.
    std::fs::write(&path, text.replace("ca.pem", "server.pem").replace("127.0.0.1", "localhost")).unwrap();
    assert!(connect(&settings).await.is_ok(), "nothing is sent yet");
    let mut watching = follow(settings);
    watching.until("stale", |w| w.state() == State::Stale).await;
    assert!(watching.error().contains("certificate"), "{}", watching.error());
    assert!(!watching.freshness.as_ref().unwrap().has_synced());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_service_asks_of_its_callers_and_its_load_balancer_s_address_are_read_as_the_server_has_them()
{
    let Some(server) = server().await else { return };
    let ports = json!([{"name": "http", "port": 80}]);
    for (name, more) in [
        ("plain", json!({})),
        ("close", json!({"trafficDistribution": "PreferClose"})),
        ("local", json!({"internalTrafficPolicy": "Local"})),
        ("outside", json!({"type": "LoadBalancer", "externalIPs": ["203.0.113.9"]})),
    ] {
        let mut spec = more;
        spec["ports"] = ports.clone();
        let service = json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec});
        server.put("/api/v1/namespaces/shop/services", &service).await.unwrap();
    }
    let path = "/api/v1/namespaces/shop/services/outside";
    let mut outside = server.send(Method::GET, path, &Value::Null).await.unwrap();
    outside["status"] = json!({"loadBalancer": {"ingress": [
        {"ip": "192.0.2.1", "ipMode": "VIP"}, {"ip": "192.0.2.2", "ipMode": "Proxy"}, {"hostname": "lb.example.org"}]}});
    server.send(Method::PUT, &format!("{path}/status"), &outside).await.unwrap();
    let mut watching = follow(server.settings(User::Weft).unwrap());
    let of = |watching: &Watching, name: &str| {
        let snapshot = watching.catalog.snapshot();
        snapshot.service(&format!("shop/{name}").parse::<ServiceKey>().unwrap()).cloned()
    };
    watching.until("four services", |w| of(w, "outside").is_some_and(|one| one.addresses.len() == 2)).await;
    let prefers = ["plain", "close", "local"].map(|name| of(&watching, name).unwrap().prefer);
    assert_eq!(prefers, [None, Some(Prefer::Zone), Some(Prefer::NodeOnly)]);
    let addresses = of(&watching, "outside").unwrap().addresses.clone();
    assert!(addresses.contains(&"default/192.0.2.1".parse().unwrap()), "{addresses:?}");
    assert_eq!(watching.problems(), [""; 0]);
}
