//! Who is picked where the service says which endpoints its callers prefer.

use super::*;

/// 1 on the caller's node, 2 in its zone, 3 in its region, 4 elsewhere.
fn four() -> Vec<Endpoint> {
    let at = |n: u8, locality: &str, node: &str| Endpoint {
        locality: locality.parse().unwrap(),
        node: Some(node.parse().unwrap()),
        ..endpoint(n)
    };
    vec![
        at(1, "eu/a", "kubernetes/prod/n1"),
        at(2, "eu/a", "kubernetes/prod/n2"),
        at(3, "eu/b", "kubernetes/prod/n3"),
        // Of the same name, in another cluster.
        at(4, "us/a", "kubernetes/lab/n1"),
    ]
}

fn here() -> Place {
    place("eu/a", Some("kubernetes/prod/n1"))
}

fn picked(prefer: Option<Prefer>, own: Place, endpoints: Vec<Endpoint>) -> Vec<u8> {
    let now = Instant::now();
    picks(&placed(prefer, own, policy(), endpoints, now), 200, now).into_keys().collect()
}

#[test]
fn a_service_that_prefers_a_zone_gets_its_callers_calls_there_and_else_anywhere() {
    let zone = Some(Prefer::Zone);
    assert_eq!(picked(zone, here(), four()), [1, 2], "the node is not asked for");
    assert_eq!(picked(zone, here(), four().split_off(2)), [3], "then the region");
    assert_eq!(picked(zone, here(), four().split_off(3)), [4], "no call is lost");
    assert_eq!(picked(zone, Place::default(), four()), [1, 2, 3, 4], "where is this proxy?");
    let narrow = place("eu/a/rack-1", None);
    assert_eq!(picked(zone, narrow, four()), [1, 2], "a subzone is narrower than asked for");
}

#[test]
fn a_service_that_prefers_a_node_gets_its_callers_calls_there_and_else_in_the_zone() {
    let node = Some(Prefer::Node);
    assert_eq!(picked(node, here(), four()), [1]);
    assert_eq!(picked(node, here(), four().split_off(1)), [2]);
    assert_eq!(picked(node, here(), four().split_off(3)), [4]);
    assert_eq!(picked(node, place("eu/a", None), four()), [1, 2], "the node is not known, the zone is");
}

#[test]
fn the_nearer_ones_that_fail_or_take_no_new_work_are_stepped_over() {
    let now = Instant::now();
    let mut all = four();
    all[0].health = Health::Unhealthy;
    let cluster = placed(Some(Prefer::Node), here(), policy(), all, now);
    let first = cluster.pick(&[], now).unwrap();
    assert_eq!(last_byte(&first), 2, "an unhealthy neighbour is no neighbour");
    let second = cluster.pick(std::slice::from_ref(&first), now).unwrap();
    assert_eq!(last_byte(&second), 3, "a retry goes further away");
    for _ in 0..3 {
        cluster.note(&first, Outcome::Bad, now);
    }
    assert_eq!(last_byte(&cluster.pick(&[], now).unwrap()), 3, "and so does everybody while it is ejected");
}

#[test]
fn a_service_of_the_own_node_only_is_never_called_elsewhere() {
    let now = Instant::now();
    let only = Some(Prefer::NodeOnly);
    assert_eq!(picked(only, here(), four()), [1]);
    let cluster = placed(only, here(), policy(), four(), now);
    let first = cluster.pick(&[], now).unwrap();
    assert!(!cluster.has_other(&first, now), "a retry may not leave the node either");
    assert_eq!(last_byte(&cluster.pick(&[first], now).unwrap()), 1);
    let mut sick = four();
    sick[0].health = Health::Unhealthy;
    assert_eq!(picked(only, here(), sick), [1], "one that is said to be sick is better than none");
}

#[test]
fn a_call_that_may_not_leave_its_node_and_finds_nobody_there_is_refused_with_a_reason_of_its_own() {
    let now = Instant::now();
    let elsewhere = placed(Some(Prefer::NodeOnly), here(), policy(), four().split_off(1), now);
    let failure = elsewhere.pick(&[], now).unwrap_err();
    assert_eq!((failure.flag, failure.status().as_u16()), (ResponseFlag::NoLocalEndpoint, 503));
    assert!(failure.detail.contains("3 on other nodes than this proxy's"), "{}", failure.detail);
    let lost = placed(Some(Prefer::NodeOnly), Place::default(), policy(), four(), now);
    let failure = lost.pick(&[], now).unwrap_err();
    assert_eq!(failure.flag, ResponseFlag::NoLocalEndpoint);
    assert!(failure.detail.contains("this proxy's own is not known"), "{}", failure.detail);
    let mut unsaid = four();
    unsaid.iter_mut().for_each(|endpoint| endpoint.node = None);
    let nowhere = placed(Some(Prefer::NodeOnly), Place::default(), policy(), unsaid, now);
    assert!(nowhere.pick(&[], now).is_err(), "two unknown nodes are not the same node");
    let none = placed(Some(Prefer::NodeOnly), here(), policy(), Vec::new(), now);
    assert_eq!(
        none.pick(&[], now).unwrap_err().flag,
        ResponseFlag::NoHealthyUpstream,
        "there is none at all"
    );
}

#[test]
fn a_service_s_word_counts_before_the_proxy_s_own_setting() {
    let now = Instant::now();
    let near = Policy { near: true, ..policy() };
    let rack = || {
        let mut all = four();
        all[0].locality = "eu/a/rack-1".parse().unwrap();
        all
    };
    let own = || place("eu/a/rack-1", None);
    let by_setting = placed(None, own(), near.clone(), rack(), now);
    assert_eq!(picks(&by_setting, 100, now).into_keys().collect::<Vec<_>>(), [1]);
    let said = placed(Some(Prefer::Zone), own(), near, rack(), now);
    assert_eq!(picks(&said, 100, now).into_keys().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(picked(None, here(), four()), [1, 2, 3, 4], "nobody says anything");
}

#[test]
fn a_proxy_that_learns_where_it_is_prefers_from_then_on() {
    let now = Instant::now();
    let cluster = placed(Some(Prefer::Zone), Place::default(), policy(), four(), now);
    assert_eq!(picks(&cluster, 200, now).len(), 4);
    let same = cluster.view.borrow().config.clone().unwrap();
    cluster.follow(&same, &Arc::new(here()), 3, now);
    assert_eq!(picks(&cluster, 200, now).into_keys().collect::<Vec<_>>(), [1, 2]);
}
