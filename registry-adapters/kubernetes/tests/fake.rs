//! The adapter on the scripted API server: the faults that the contract does not know.

#![allow(clippy::unwrap_used, reason = "what is not as expected here fails the test")]

mod support;

use std::time::Duration;

use serde_json::json;
use support::fake::{FakeApi, Fault};
use support::objects::{node, pod, service, slice};
use support::watching::follow;
use tokio::time::Instant;
use weft_model::{Health, Tunnel};
use weft_registry::State;
use weft_registry::testkit::Watching;
use weft_registry_kubernetes::{KubernetesSettings, NamespaceSettings};

/// The service `shop/api` with the pods `a` and `b`.
async fn with_two_pods() -> FakeApi {
    let fake = FakeApi::start().await;
    fake.put("nodes", node("node-1", "eu", "1"));
    fake.put("services", service("shop", "api", 80));
    fake.put("pods", pod("shop", "a", "10.1.0.1"));
    fake.put("pods", pod("shop", "b", "10.1.0.2"));
    fake.put("endpointslices", two_pods());
    fake
}

fn two_pods() -> serde_json::Value {
    slice("shop", "api-1", "api", 8080, &[("a", "10.1.0.1", true), ("b", "10.1.0.2", true)])
}

async fn synced(fake: &FakeApi) -> Watching {
    let mut watching = follow(fake.settings());
    watching.until_members("shop/api", 2).await;
    watching
}

#[tokio::test]
async fn a_cluster_is_read_by_streamed_lists_and_by_pages_alike() {
    for streams in [true, false] {
        let fake = with_two_pods().await;
        fake.set_streams(streams);
        for i in 0..25 {
            fake.put("pods", pod("shop", &format!("more-{i}"), &format!("10.2.0.{i}")));
        }
        let mut watching = follow(KubernetesSettings { page_size: 10, ..fake.settings() });
        watching.until("all are read", |w| w.workloads().len() == 27).await;
        assert_eq!(watching.resets, [None], "one Reset of all");
        let a =
            watching.workloads().into_iter().find(|workload| workload.id.as_str() == "pod/uid-a").unwrap();
        assert_eq!((a.tunnel, a.locality.to_string()), (Tunnel::Port(15008), "eu/1".to_owned()));
        let pages =
            fake.requests().iter().filter(|r| r.contains("/pods?") && !r.contains("watch=true")).count();
        assert_eq!(pages, if streams { 0 } else { 3 });
    }
}

#[tokio::test]
async fn a_change_of_a_slice_is_told_at_once() {
    let fake = with_two_pods().await;
    let mut watching = synced(&fake).await;
    let begun = Instant::now();
    for round in 0..20 {
        let ready = round % 2 == 1;
        fake.change("endpointslices", "shop/api-1", |slice| {
            slice["endpoints"][0]["conditions"] = json!({"ready": ready});
        });
        let wanted = if ready { Health::Healthy } else { Health::Unhealthy };
        let told = |w: &Watching| {
            w.workloads()
                .iter()
                .any(|workload| workload.id.as_str() == "pod/uid-a" && workload.health == wanted)
        };
        watching.until("told of the health", told).await;
    }
    // Far from any timer of ours; a loaded machine may take its time.
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn watches_that_end_are_taken_up_where_they_ended() {
    let fake = with_two_pods().await;
    let mut watching = synced(&fake).await;
    let lists = fake.count("sendInitialEvents");
    for _ in 0..3 {
        fake.end_watches();
        watching.during(Duration::from_millis(600)).await;
    }
    // And by the server's own limit.
    watching.during(Duration::from_millis(1500)).await;
    fake.delete("pods", "shop/b");
    watching.until_members("shop/api", 1).await;
    assert_eq!((fake.count("sendInitialEvents"), watching.resets.len()), (lists, 1));
    assert_eq!(watching.state(), State::Synced);
}

#[tokio::test]
async fn behind_an_error_and_behind_a_late_answer_all_is_read_since_the_server_may_have_other_data() {
    for fault in [Fault::Broken("pods"), Fault::Late(Duration::from_millis(700))] {
        let fake = with_two_pods().await;
        let patient = KubernetesSettings { answer_timeout: Duration::from_secs(2), ..fake.settings() };
        let mut watching = follow(patient);
        watching.until_synced().await;
        fake.set_fault(fault);
        fake.lose("pods", "shop/b");
        watching.during(Duration::from_millis(900)).await;
        fake.set_fault(Fault::None);
        watching.until_members("shop/api", 1).await;
        watching.until_synced().await;
    }
}

#[tokio::test]
async fn what_went_while_the_version_was_lost_goes_with_a_second_reading() {
    let fake = with_two_pods().await;
    let mut watching = synced(&fake).await;
    fake.set_fault(Fault::Broken("pods"));
    watching.until("stale", |w| w.state() == State::Stale).await;
    fake.delete("pods", "shop/b");
    fake.compact();
    fake.set_fault(Fault::None);
    watching.until_members("shop/api", 1).await;
    assert!(watching.resets.len() >= 2, "{:?}", watching.resets);
    watching.until_synced().await;
}

#[tokio::test]
async fn a_version_of_the_server_s_former_life_is_given_up() {
    let fake = with_two_pods().await;
    let mut watching = synced(&fake).await;
    fake.version_goes_back_to(5);
    fake.put("pods", pod("shop", "c", "10.1.0.3"));
    watching.until("told of the new pod", |w| w.workloads().len() == 3).await;
    assert_eq!(watching.state(), State::Synced);
}

#[tokio::test]
async fn a_kind_that_is_refused_costs_what_follows_from_it_and_no_more() {
    let fake = with_two_pods().await;
    fake.set_fault(Fault::Forbidden(Some("pods")));
    let mut watching = follow(fake.settings());
    watching.until_members("shop/api", 2).await;
    watching.until("a problem", |w| w.problems().len() == 1).await;
    assert!(
        watching.problems()[0].starts_with("pods: permission denied: status 403: pods is forbidden"),
        "{:?}",
        watching.problems()
    );
    assert!(
        watching
            .workloads()
            .iter()
            .all(|workload| workload.identity.is_none() && workload.tunnel == Tunnel::None)
    );
    fake.put("endpointslices", slice("shop", "api-1", "api", 8080, &[("a", "10.1.0.1", true)]));
    watching.until_members("shop/api", 1).await;
    assert_eq!(watching.state(), State::Synced);
    // The right is given: all is as if it had been there from the beginning.
    fake.set_fault(Fault::None);
    watching.until("identities", |w| w.workloads().iter().all(|workload| workload.identity.is_some())).await;
    watching.until("no problem", |w| w.problems().is_empty()).await;
}

#[tokio::test]
async fn a_needed_kind_that_is_refused_is_denied_and_nothing_goes() {
    let fake = with_two_pods().await;
    let mut watching = synced(&fake).await;
    fake.set_fault(Fault::Forbidden(Some("endpointslices")));
    watching.until("denied", |w| w.state() == State::Denied).await;
    // The rest goes on.
    fake.put("services", service("shop", "web", 80));
    watching
        .until("told of web", |w| w.catalog.snapshot().service(&"shop/web".parse().unwrap()).is_some())
        .await;
    watching.until("still denied", |w| w.state() == State::Denied).await;
    assert_eq!(watching.members("shop/api").len(), 2);
    fake.set_fault(Fault::None);
    watching.until_synced().await;
}

#[tokio::test]
async fn a_busy_server_is_asked_again_when_it_says_so() {
    let fake = with_two_pods().await;
    let mut watching = synced(&fake).await;
    let lists = fake.count("sendInitialEvents");
    fake.set_fault(Fault::Busy(2));
    watching.until("stale", |w| w.state() == State::Stale).await;
    assert!(watching.error().contains("429"), "{}", watching.error());
    watching.during(Duration::from_millis(300)).await;
    let before = fake.requests().len();
    watching.during(Duration::from_millis(1200)).await;
    assert_eq!(fake.requests().len(), before, "it asked before the time");
    fake.set_fault(Fault::None);
    watching.until_synced().await;
    assert_eq!(watching.members("shop/api").len(), 2);
    assert_eq!(fake.count("sendInitialEvents"), lists, "a busy server is not asked for everything");
}

#[tokio::test]
async fn garbage_in_watches_and_a_refused_token_are_errors_and_remove_nothing() {
    let fake = with_two_pods().await;
    let mut watching = synced(&fake).await;
    for (fault, state) in [(Fault::GarbageInWatches, State::Stale), (Fault::Unauthorized, State::Denied)] {
        fake.set_fault(fault);
        watching.until("in error", |w| w.state() == state).await;
        assert_eq!(watching.members("shop/api").len(), 2);
        fake.set_fault(Fault::None);
        watching.until_synced().await;
    }
}

#[tokio::test]
async fn a_kubeconfig_that_was_changed_is_used_when_the_old_one_is_refused() {
    let fake = with_two_pods().await;
    let mut watching = synced(&fake).await;
    fake.require_token("token-2");
    watching.until("denied", |w| w.state() == State::Denied).await;
    fake.write_kubeconfig("token-2");
    watching.until_synced().await;
    fake.put("pods", pod("shop", "c", "10.1.0.3"));
    watching.until("told of the new pod", |w| w.workloads().len() == 3).await;
}

#[tokio::test]
async fn a_kubeconfig_that_comes_later_is_waited_for() {
    let fake = with_two_pods().await;
    let settings = fake.settings();
    let path = settings.kubeconfig.clone().unwrap();
    std::fs::write(&path, "clusters: [").unwrap();
    let mut watching = follow(settings);
    watching.until("stale", |w| w.state() == State::Stale).await;
    assert!(watching.error().contains(path.to_str().unwrap()), "{}", watching.error());
    fake.write_kubeconfig("token-1");
    watching.until_members("shop/api", 2).await;
}

#[tokio::test]
async fn only_namespaces_that_are_named_are_asked_for() {
    let fake = with_two_pods().await;
    fake.put("services", service("pay", "api", 80));
    let include = ["shop".to_owned(), "empty".to_owned()].into();
    let namespaces = NamespaceSettings { include, ..NamespaceSettings::default() };
    let mut watching = follow(KubernetesSettings { namespaces, ..fake.settings() });
    watching.until_members("shop/api", 2).await;
    let asked = fake.requests();
    assert!(
        asked.iter().all(|r| r.contains("/namespaces/shop/")
            || r.contains("/namespaces/empty/")
            || r.contains("/nodes?")),
        "{asked:#?}"
    );
    fake.put("services", service("shop", "web", 80));
    watching
        .until("told of web", |w| w.catalog.snapshot().service(&"shop/web".parse().unwrap()).is_some())
        .await;
    assert!(watching.catalog.snapshot().service(&"pay/api".parse().unwrap()).is_none());
}

#[tokio::test]
async fn namespaces_are_chosen_by_their_labels_as_they_are_now() {
    let fake = with_two_pods().await;
    let labelled = |value: &str| json!({"metadata": {"name": "shop", "labels": {"mesh": value}}});
    fake.put("namespaces", labelled("on"));
    let namespaces =
        NamespaceSettings { selector: Some("mesh=on".to_owned()), ..NamespaceSettings::default() };
    let mut watching = follow(KubernetesSettings { namespaces, ..fake.settings() });
    watching.until_members("shop/api", 2).await;
    // A server tells a watch with a selector that an object is gone when it no longer matches.
    fake.delete("namespaces", "/shop");
    watching.until("without the namespace", |w| w.workloads().is_empty()).await;
    fake.put("namespaces", labelled("on"));
    watching.until_members("shop/api", 2).await;
}

#[tokio::test]
async fn problems_are_told_and_go() {
    let fake = with_two_pods().await;
    let mut watching = synced(&fake).await;
    fake.change("pods", "shop/a", |pod| pod["metadata"]["annotations"] = json!({"weft.dev/weight": "lots"}));
    watching.until("a problem", |w| w.problems().len() == 1).await;
    assert!(
        watching.problems()[0].starts_with("pod shop/a: metadata.annotations[weft.dev/weight]"),
        "{:?}",
        watching.problems()
    );
    assert_eq!((watching.state(), watching.members("shop/api").len()), (State::Synced, 2));
    fake.delete("pods", "shop/a");
    watching.until("no problem", |w| w.problems().is_empty()).await;
}
