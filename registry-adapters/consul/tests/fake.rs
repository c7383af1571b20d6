//! The adapter against a scripted Consul: each of the four outcomes, each fault, and the number of requests they cost.

#![allow(clippy::unwrap_used, reason = "what is not as expected here fails the test")]

mod support;

use std::time::Duration;

use serde_json::json;
use support::fake::{FakeConsul, Fault};
use support::watching::follow;
use weft_model::Health;
use weft_registry::State;
use weft_registry::testkit::Watching;
use weft_registry_consul::ConsulSettings;

fn settings(fake: &FakeConsul) -> ConsulSettings {
    ConsulSettings {
        address: fake.url(),
        wait: Duration::from_secs(2),
        answer_timeout: Duration::from_millis(500),
        ..ConsulSettings::default()
    }
}

/// A fake with `api` (two instances) and `web` (one), and the adapter in sync with it.
async fn started() -> (FakeConsul, Watching) {
    let fake = FakeConsul::start().await;
    fake.put("api", "api-1", |_| {});
    fake.put("api", "api-2", |_| {});
    fake.put("web", "web-1", |_| {});
    let mut watching = follow(settings(&fake));
    watching.until_synced().await;
    assert_eq!(watching.workloads().len(), 3);
    (fake, watching)
}

#[tokio::test]
async fn the_first_listing_is_one_reset_of_everything() {
    let (_fake, watching) = started().await;
    assert_eq!(watching.resets, [None]);
    assert_eq!(watching.members("api"), ["consul/dc1/node-1/api-1", "consul/dc1/node-1/api-2"]);
    let api = &watching.workloads()[0];
    assert_eq!(api.identity.as_ref().unwrap().as_str(), "spiffe://weft.test/ns/default/sa/api");
    assert_eq!(api.locality.to_string(), "dc1");
}

#[tokio::test]
async fn a_change_of_one_service_resets_that_service_alone() {
    let (fake, mut watching) = started().await;
    fake.put("api", "api-2", |entry| entry["Checks"][0]["Status"] = json!("critical"));
    watching
        .until("api-2 is unhealthy", |watching| watching.workloads()[1].health == Health::Unhealthy)
        .await;
    fake.remove("api", "api-1");
    watching.until_members("api", 1).await;
    fake.put("api", "api-3", |_| {});
    watching.until_members("api", 2).await;
    assert_eq!(watching.resets, [None, Some(1), Some(1), Some(1)]);
    assert_eq!(watching.members("web").len(), 1);
}

#[tokio::test]
async fn services_that_vanish_together_are_one_reset_that_the_guard_can_hold() {
    let (fake, mut watching) = started().await;
    fake.remove_all();
    watching.during(Duration::from_secs(1)).await;
    // More than half at once: kept until a second read confirms it.
    assert_eq!(watching.workloads().len(), 3);
    assert!(watching.freshness.as_ref().unwrap().held_reset.is_some());
}

#[tokio::test]
async fn a_service_that_vanishes_is_removed_and_comes_back() {
    let (fake, mut watching) = started().await;
    fake.remove_service("web");
    watching.until_members("web", 0).await;
    assert_eq!(watching.members("api").len(), 2);
    fake.put("web", "web-9", |_| {});
    watching.until_members("web", 1).await;
    assert_eq!(watching.state(), State::Synced);
}

#[tokio::test]
async fn an_empty_datacenter_is_synced_and_empty() {
    let fake = FakeConsul::start().await;
    let mut watching = follow(settings(&fake));
    watching.until_synced().await;
    assert!(watching.workloads().is_empty());
    fake.put("api", "api-1", |_| {});
    watching.until_members("api", 1).await;
}

/// A fault keeps everything and shows as `state`; without it all is well again, and changes arrive.
async fn keeps_all_and_shows(fault: Fault, state: State) {
    let (fake, mut watching) = started().await;
    fake.set_fault(fault);
    watching.until("the fault shows", |watching| watching.state() == state).await;
    let before = fake.count();
    watching.during(Duration::from_millis(1500)).await;
    assert_eq!(watching.workloads().len(), 3, "{fault:?}");
    // Three queries with growing waits, and second looks at the list.
    assert!(fake.count() - before < 60, "{fault:?}: {} requests in 1.5 s", fake.count() - before);
    fake.set_fault(Fault::None);
    watching.until_synced().await;
    fake.put("api", "api-3", |_| {});
    watching.until_members("api", 3).await;
}

#[tokio::test]
async fn forbidden_is_permission_denied() {
    keeps_all_and_shows(Fault::Forbidden, State::Denied).await;
}

#[tokio::test]
async fn an_empty_list_without_consul_itself_is_permission_denied() {
    keeps_all_and_shows(Fault::EmptyDenied, State::Denied).await;
}

#[tokio::test]
async fn listed_services_without_instances_are_permission_denied() {
    keeps_all_and_shows(Fault::NodesHidden, State::Denied).await;
}

#[tokio::test]
async fn a_storm_of_500_is_source_down() {
    keeps_all_and_shows(Fault::NoLeader, State::Stale).await;
}

#[tokio::test]
async fn an_unknown_datacenter_is_not_found() {
    keeps_all_and_shows(Fault::NoDatacenter, State::NotFound).await;
}

#[tokio::test]
async fn a_hanging_agent_is_source_down() {
    keeps_all_and_shows(Fault::Hang, State::Stale).await;
}

#[tokio::test]
async fn garbage_is_source_down() {
    keeps_all_and_shows(Fault::Garbage, State::Stale).await;
}

#[tokio::test]
async fn a_body_without_end_is_source_down() {
    keeps_all_and_shows(Fault::Huge, State::Stale).await;
}

#[tokio::test]
async fn a_connection_cut_in_the_body_is_source_down() {
    keeps_all_and_shows(Fault::Cut, State::Stale).await;
}

#[tokio::test]
async fn a_dead_agent_is_source_down_and_all_is_well_when_it_is_back() {
    let (mut fake, mut watching) = started().await;
    fake.go_down().await;
    watching.until("stale", |watching| watching.state() == State::Stale).await;
    assert!(
        watching.error().contains("refused") || watching.error().contains("closed"),
        "{}",
        watching.error()
    );
    watching.during(Duration::from_secs(1)).await;
    assert_eq!(watching.workloads().len(), 3);
    fake.remove("api", "api-1");
    fake.come_back().await;
    watching.until_synced().await;
    watching.until_members("api", 1).await;
}

#[tokio::test]
async fn an_agent_that_is_back_is_seen_although_nothing_changes_in_it() {
    let mut fake = FakeConsul::start().await;
    fake.put("api", "api-1", |_| {});
    // Longer than this test waits: the first answer after the outage must not have blocked.
    let mut watching = follow(ConsulSettings { wait: Duration::from_mins(5), ..settings(&fake) });
    watching.until_synced().await;
    fake.go_down().await;
    watching.until("stale", |watching| watching.state() == State::Stale).await;
    fake.come_back().await;
    watching.until_synced().await;
    assert_eq!(watching.members("api").len(), 1);
}

#[tokio::test]
async fn a_restart_between_two_questions_does_not_leave_the_list_waiting_for_an_old_index() {
    let mut fake = FakeConsul::start().await;
    let mut watching = follow(ConsulSettings { wait: Duration::from_mins(5), ..settings(&fake) });
    // So many changes that the list is asked for at a pace: there is a pause before each question.
    for n in 0..8 {
        fake.put(&format!("service-{n}"), "one", |_| {});
        watching.until_members(&format!("service-{n}"), 1).await;
    }
    fake.go_down().await;
    // Another life of the server, in which it comes just as far as it was when the list was last read.
    fake.index_goes_back_to(16);
    fake.put("other", "other-1", |_| {});
    fake.come_back().await;
    watching.until_members("other", 1).await;
    watching.during(Duration::from_secs(1)).await;
    fake.put("new", "new-1", |_| {});
    watching.until_members("new", 1).await;
}

#[tokio::test]
async fn an_index_that_goes_back_starts_over_and_loses_nothing() {
    let (fake, mut watching) = started().await;
    fake.index_goes_back_to(3);
    watching.during(Duration::from_millis(500)).await;
    fake.put("api", "api-3", |_| {});
    watching.until_members("api", 3).await;
    // The list and the service are answered at about the same time, in either order.
    let lists =
        |request: &&String| request.starts_with("/v1/catalog/services") && !request.contains("index=");
    for _ in 0..100 {
        if fake.requests().iter().filter(lists).count() >= 2 {
            return;
        }
        watching.during(Duration::from_millis(100)).await;
    }
    panic!("the list was not asked anew: {:?}", fake.requests());
}

#[tokio::test]
async fn odd_indexes_and_headers_neither_spin_nor_stop_it() {
    for fault in [Fault::IndexZero, Fault::IndexMissing, Fault::OddHeader] {
        let (fake, mut watching) = started().await;
        fake.set_fault(fault);
        watching.during(Duration::from_millis(200)).await;
        let before = fake.count();
        watching.during(Duration::from_secs(2)).await;
        // Three loops: a burst of 5 each, then 2 a second.
        let asked = fake.count() - before;
        assert!(asked <= 3 * (5 + 4 + 1), "{fault:?}: {asked} requests in 2 s");
        assert_eq!(watching.state(), State::Synced, "{fault:?}");
        fake.put("api", "api-3", |_| {});
        watching.until_members("api", 3).await;
        assert!(
            !fake
                .requests()
                .iter()
                .any(|request| request.contains("index=0&") || request.ends_with("index=0"))
        );
    }
}

#[tokio::test]
async fn writes_that_change_nothing_are_paced_and_told_to_nobody() {
    let (fake, mut watching) = started().await;
    let before = fake.count();
    for _ in 0..200 {
        fake.churn();
        watching.during(Duration::from_millis(10)).await;
    }
    let asked = fake.count() - before;
    assert!(asked <= 3 * (5 + 4 + 3), "{asked} requests in 2 s of churn");
    assert_eq!(watching.resets, [None]);
}

#[tokio::test]
async fn garbage_for_one_service_is_that_services_problem() {
    let (fake, mut watching) = started().await;
    fake.set_fault(Fault::GarbageForApi);
    watching
        .until("a problem", |watching| watching.problems().iter().any(|text| text.contains("service api")))
        .await;
    fake.put("web", "web-2", |_| {});
    watching.until_members("web", 2).await;
    assert_eq!(watching.members("api").len(), 2);
    assert_eq!(watching.state(), State::Synced);
    fake.set_fault(Fault::None);
    watching.until("no problem", |watching| watching.problems().is_empty()).await;
}

#[tokio::test]
async fn one_unreadable_service_does_not_keep_the_others_out_for_ever() {
    let fake = FakeConsul::start().await;
    fake.put("api", "api-1", |_| {});
    fake.put("web", "web-1", |_| {});
    fake.set_fault(Fault::GarbageForApi);
    let mut watching = follow(settings(&fake));
    watching.until_members("web", 1).await;
    assert_eq!(watching.state(), State::Syncing);
    fake.set_fault(Fault::None);
    watching.until_synced().await;
    assert_eq!(watching.workloads().len(), 2);
}

#[tokio::test]
async fn a_bad_value_keeps_the_instance_as_it_was_and_names_the_key() {
    let (fake, mut watching) = started().await;
    fake.put("web", "web-1", |entry| {
        entry["Service"]["Meta"] = json!({"weft-protocol": "carrier-pigeon"});
        entry["Service"]["Port"] = json!(9999);
    });
    watching.until("a problem", |watching| !watching.problems().is_empty()).await;
    let [problem] = watching.problems().try_into().unwrap();
    assert!(problem.starts_with("node-1/web-1: Meta.weft-protocol"), "{problem}");
    let web =
        watching.workloads().into_iter().find(|workload| workload.id.as_str().ends_with("web-1")).unwrap();
    assert_eq!(web.services.values().next().unwrap()[0].number, 8080);
    fake.put("web", "web-1", |entry| entry["Service"]["Meta"] = json!({"weft-protocol": "grpc"}));
    watching
        .until("the new port", |watching| {
            watching.problems().is_empty()
                && watching.workloads()[2].services.values().next().unwrap()[0].number == 9999
        })
        .await;
}

#[tokio::test]
async fn more_services_than_watches_take_turns_and_say_so() {
    let fake = FakeConsul::start().await;
    for service in 0..20 {
        fake.put(&format!("svc-{service}"), &format!("svc-{service}-one"), |_| {});
    }
    let mut watching = follow(ConsulSettings { max_watches: 4, ..settings(&fake) });
    watching.until_synced().await;
    assert_eq!(watching.workloads().len(), 20);
    watching
        .until("a warning", |watching| {
            watching.problems().iter().any(|text| text.contains("max_watches = 4"))
        })
        .await;
    fake.put("svc-13", "svc-13-two", |_| {});
    watching.until_members("svc-13", 2).await;
}

#[tokio::test]
async fn a_token_that_sees_a_part_removes_only_what_the_server_shows_as_gone() {
    let fake = FakeConsul::start().await;
    fake.put("api", "api-1", |_| {});
    fake.put("web", "web-1", |_| {});
    fake.set_filtered(true);
    let mut watching = follow(settings(&fake));
    watching.until_synced().await;
    assert_eq!(watching.workloads().len(), 2);
    fake.remove_service("web");
    watching.during(Duration::from_secs(1)).await;
    // The answers say that something is hidden.
    assert_eq!(watching.workloads().len(), 2);
}

#[tokio::test]
async fn an_answer_that_waited_under_another_token_is_asked_for_again() {
    let fake = FakeConsul::start().await;
    fake.put("api", "api-1", |_| {});
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "one").unwrap();
    let settings = ConsulSettings {
        token_file: Some(file.path().to_owned()),
        wait: Duration::from_secs(60),
        ..settings(&fake)
    };
    let mut watching = follow(settings);
    watching.until_synced().await;
    watching.during(Duration::from_millis(300)).await;
    std::fs::write(&file, "two").unwrap();
    let before = fake.count();
    fake.churn();
    watching.during(Duration::from_millis(500)).await;
    let asked = fake.requests().split_off(before);
    assert_eq!(asked.iter().filter(|request| !request.contains("index=")).count(), 2, "{asked:?}");
}

#[tokio::test]
async fn a_stale_answer_without_leader_is_used_and_marked() {
    let fake = FakeConsul::start().await;
    fake.put("api", "api-1", |_| {});
    let mut watching = follow(ConsulSettings { stale: true, ..settings(&fake) });
    watching.until_synced().await;
    assert!(fake.requests().iter().all(|request| request.contains("stale")), "{:?}", fake.requests());
    fake.set_fault(Fault::Lagging);
    watching.until("stale", |watching| watching.state() == State::Stale).await;
    assert_eq!(watching.workloads().len(), 1);
    fake.set_fault(Fault::None);
    watching.until_synced().await;
}

#[tokio::test]
async fn a_dropped_stream_asks_nothing_more() {
    let (fake, watching) = started().await;
    drop(watching);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = fake.count();
    fake.churn();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(fake.count(), before);
}
