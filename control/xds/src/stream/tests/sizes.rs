//! Large listings, removals beside them, streams that are behind, and the status.

use super::*;

#[test]
fn d16_one_endpoint_of_many_is_one_resource() {
    let ids: Vec<String> = (0..1000).map(|n| format!("vm/{n:03}")).collect();
    let workloads: Vec<(&str, &[&str])> = ids.iter().map(|id| (id.as_str(), &["api"][..])).collect();
    let mut world = World::new(&workloads);
    world.listening(&["default/api"]);
    let change = world.set("vm/500", &["api"], 7);
    assert_eq!(told(&change), ["Workload+vm/500"]);
    assert!(change[0].encoded_len() < 400, "{} bytes", change[0].encoded_len());
    assert_eq!(change[0].system_version_info, world.published.revision.to_string());
}

#[test]
fn d21_large_listings_are_split_and_the_service_waits_for_the_last_part() {
    let ids: Vec<String> = (0..100).map(|n| format!("vm/{n:03}")).collect();
    let workloads: Vec<(&str, &[&str])> = ids.iter().map(|id| (id.as_str(), &["api"][..])).collect();
    let mut world = World::new(&workloads);
    world.stream = Stream::new(StreamSettings { max_response: 4096, ..StreamSettings::default() });
    let first = world.listen(&["default/api", "default/none"]);
    assert_eq!(first.len(), 3, "roots, a part of the workloads, and the service without workloads");
    assert_eq!(told(&first[2..]), ["Service-default/none"]);
    let mut all = told(&first);
    let mut responses = first;
    while let Some(response) = responses.pop() {
        assert!(response.encoded_len() < 5000);
        let next = world.ack(&response);
        all.extend(told(&next));
        responses.extend(next);
    }
    assert_eq!(all.len(), 1 + 100 + 2);
    assert_eq!(all.last().unwrap(), "Service+default/api");
    assert!(world.stream.status().in_sync);
}

#[test]
fn a_removal_goes_with_the_next_response_however_full_it_is() {
    let ids: Vec<String> = (0..100).map(|n| format!("vm/{n:03}")).collect();
    let workloads: Vec<(&str, &[&str])> = ids.iter().map(|id| (id.as_str(), &["api"][..])).collect();
    let mut world = World::new(&workloads);
    world.stream = Stream::new(StreamSettings { max_response: 4096, ..StreamSettings::default() });
    let start = world.listen(&["default/api"]);
    world.settle(start);
    let first = world.set("vm/000", &["api"], 2);
    for id in &ids[1..99] {
        world.set(id, &["api"], 2);
    }
    world.remove("vm/099");
    let next = world.ack(&first[0]);
    assert_eq!(next[0].removed_resources, ["vm/099"]);
    assert!(next[0].resources.len() < 98);
}

#[test]
fn a_workload_that_leaves_all_listings_is_removed_and_one_that_stays_in_one_is_not() {
    let mut world = World::new(&[("vm/a", &["api", "web"]), ("vm/b", &["api"])]);
    world.listening(&["default/api"]);
    assert_eq!(told(&world.set("vm/a", &["web"], 1)), ["Workload-vm/a"]);
    let mut world = World::new(&[("vm/a", &["api", "web"]), ("vm/b", &["api"])]);
    world.listening(&["default/api", "default/web"]);
    assert_eq!(told(&world.unsubscribe(Type::Workload, &["default/api"])), [""; 0]);
    assert_eq!(world.stream.status().types[1].held, 1, "vm/a is still in web");
    assert_eq!(told(&world.set("vm/a", &["api", "web"], 2)), ["Workload+vm/a"]);
}

#[test]
fn a_listing_given_up_while_its_answer_is_under_way_is_complete_when_it_is_wanted_again() {
    let mut world = World::new(&[("vm/a", &["api", "web"])]);
    let first = world.subscribe(Type::Workload, &["default/api"]);
    assert!(world.unsubscribe(Type::Workload, &["default/api"]).is_empty());
    // The client ignored the answer: it wanted nothing of it any more.
    let after = world.ack(&first[0]);
    assert_eq!(told(&after), ["Workload-vm/a"]);
    world.ack(&after[0]);
    assert_eq!(told(&world.subscribe(Type::Workload, &["default/web"])), ["Workload+vm/a"]);
}

#[test]
fn a_stream_that_is_further_behind_than_the_log_compares() {
    let mut world = World::new(&[("vm/a", &["api"]), ("vm/b", &["api"])]);
    world.listening(&["default/api"]);
    let behind = std::mem::replace(&mut world.stream, Stream::new(StreamSettings::default()));
    for weight in 2..400 {
        world.set("vm/x", &["other"], weight);
        world.set("vm/a", &["api"], weight);
    }
    world.remove("vm/b");
    for weight in 2..400 {
        world.set("vm/x", &["other"], weight);
    }
    world.stream = behind;
    let caught_up = world.stream.on_published(&world.published);
    assert_eq!(told(&caught_up), ["Workload+vm/a", "Workload-vm/b"]);
}

#[test]
fn the_status_says_which_revision_is_applied_and_what_is_missing() {
    let mut world = World::new(&[("vm/a", &["api"])]);
    assert_eq!(world.stream.status().applied_revision, None);
    world.listening(&["default/api"]);
    let before = world.published.revision.0;
    let change = world.set("vm/a", &["api"], 2);
    let status = world.stream.status();
    assert_eq!((status.applied_revision, status.in_sync), (Some(before), false));
    assert_eq!(status.types[1].in_flight_revision, Some(before + 1));
    world.ack(&change[0]);
    let status = world.stream.status();
    assert_eq!((status.applied_revision, status.in_sync), (Some(before + 1), true));
    assert_eq!(status.user_agent.as_deref(), Some("weft-proxy"));
    world.set("vm/x", &["other"], 1);
    assert_eq!(
        world.stream.status().applied_revision,
        Some(before + 2),
        "what concerns others is applied unsent"
    );
}
