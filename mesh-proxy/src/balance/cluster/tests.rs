//! Who is picked: by health, weight, locality, failures and earlier attempts.

use std::collections::BTreeMap;
use std::time::Duration;

use weft_model::{Locality, Tunnel};

use super::*;
use crate::config::EndpointPort;

fn policy() -> Policy {
    Policy {
        outlier: OutlierPolicy {
            consecutive_failures: 3,
            max_ejected_percent: 50,
            base_ejection: Duration::from_secs(10),
        },
        budget: BudgetPolicy { ratio: 0.2, min_per_second: 10 },
        retries: 2,
        near: false,
    }
}

fn endpoint(n: u8) -> Endpoint {
    Endpoint {
        id: format!("file/api-{n}").parse().unwrap(),
        addresses: vec![IpAddr::from([10, 0, 0, n])],
        ports: vec![EndpointPort { name: None, number: 8080, protocol: Protocol::Http1 }],
        identity: Some("spiffe://weft.local/ns/default/sa/api".parse().unwrap()),
        tunnel: Tunnel::Port(15008),
        captured: false,
        weight: 100,
        health: Health::Healthy,
        locality: Locality::default(),
        node: None,
        app: "api".into(),
        version: "".into(),
    }
}

fn service(endpoints: Vec<Endpoint>) -> Arc<ServiceConfig> {
    let endpoints = endpoints.into_iter().map(Arc::new).collect();
    Arc::new(ServiceConfig { key: "api".parse().unwrap(), ports: Vec::new(), endpoints, prefer: None })
}

fn cluster(policy: Policy, endpoints: Vec<Endpoint>, now: Instant) -> Cluster {
    let wanted =
        Wanted { service: "api".parse().unwrap(), at: None, port: None, protocol: None, plaintext: false };
    let cluster = Cluster::new(wanted, Rc::new(policy), now);
    cluster.follow(&service(endpoints), &Arc::default(), 1, now);
    cluster
}

fn place(locality: &str, node: Option<&str>) -> Place {
    Place { locality: locality.parse().unwrap(), node: node.map(|node| node.parse().unwrap()) }
}

/// A cluster as a proxy of this place has it.
fn placed(
    prefer: Option<Prefer>,
    own: Place,
    policy: Policy,
    endpoints: Vec<Endpoint>,
    now: Instant,
) -> Cluster {
    let cluster = cluster(policy, Vec::new(), now);
    let service = ServiceConfig { prefer, ..ServiceConfig::clone(&service(endpoints)) };
    cluster.follow(&Arc::new(service), &Arc::new(own), 2, now);
    cluster
}

/// How often each endpoint is picked, by the last byte of its address.
fn picks(cluster: &Cluster, times: usize, now: Instant) -> BTreeMap<u8, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..times {
        let target = cluster.pick(&[], now).unwrap();
        *counts.entry(last_byte(&target)).or_default() += 1;
    }
    counts
}

fn last_byte(target: &Target) -> u8 {
    match target.endpoint.addresses[0] {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(_) => unreachable!("the tests use IPv4"),
    }
}

#[test]
fn requests_in_flight_spread_evenly_over_equal_endpoints() {
    let now = Instant::now();
    let cluster = cluster(policy(), (1..=5).map(endpoint).collect(), now);
    let mut held = Vec::new();
    for _ in 0..500 {
        let target = cluster.pick(&[], now).unwrap();
        target.memory.observe(Duration::from_millis(1), now);
        held.push((last_byte(&target), target.start()));
    }
    for n in 1..=5 {
        let count = held.iter().filter(|(byte, _)| *byte == n).count();
        assert!((85..=115).contains(&count), "endpoint {n} has {count}");
    }
}

#[test]
fn a_slow_endpoint_gets_fewer_requests() {
    let now = Instant::now();
    let cluster = cluster(policy(), (1..=3).map(endpoint).collect(), now);
    for target in &cluster.view.borrow().targets {
        let slow = last_byte(target) == 1;
        target.memory.observe(Duration::from_millis(if slow { 100 } else { 1 }), now);
    }
    let counts = picks(&cluster, 1000, now);
    assert_eq!(counts.get(&1), None, "{counts:?}");
}

#[test]
fn only_those_that_take_new_work_are_picked() {
    let now = Instant::now();
    let mut all: Vec<Endpoint> = (1..=4).map(endpoint).collect();
    all[0].health = Health::Unhealthy;
    all[1].health = Health::Draining;
    all[2].weight = 0;
    let cluster = cluster(policy(), all, now);
    assert_eq!(picks(&cluster, 100, now).into_keys().collect::<Vec<_>>(), [4]);
}

#[test]
fn when_all_are_unhealthy_they_are_tried_but_never_the_draining_ones() {
    let now = Instant::now();
    let mut all: Vec<Endpoint> = (1..=3).map(endpoint).collect();
    all[0].health = Health::Unhealthy;
    all[1].health = Health::Unhealthy;
    all[2].health = Health::Draining;
    let cluster = cluster(policy(), all, now);
    assert_eq!(picks(&cluster, 200, now).into_keys().collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn the_nearest_that_take_work_get_all_of_it_and_the_next_when_they_fail() {
    let now = Instant::now();
    let mut all: Vec<Endpoint> = (1..=3).map(endpoint).collect();
    all[0].locality = "eu/a".parse().unwrap();
    all[1].locality = "eu/b".parse().unwrap();
    all[2].locality = "us/a".parse().unwrap();
    let cluster = placed(None, place("eu/a", None), Policy { near: true, ..policy() }, all, now);
    assert_eq!(picks(&cluster, 100, now).into_keys().collect::<Vec<_>>(), [1]);
    let first = cluster.pick(&[], now).unwrap();
    let second = cluster.pick(std::slice::from_ref(&first), now).unwrap();
    assert_eq!(last_byte(&second), 2);
    let third = cluster.pick(&[first, second], now).unwrap();
    assert_eq!(last_byte(&third), 3);
}

#[test]
fn an_endpoint_that_failed_this_request_comes_last_but_comes() {
    let now = Instant::now();
    let cluster = cluster(policy(), vec![endpoint(1), endpoint(2)], now);
    let first = cluster.pick(&[], now).unwrap();
    for _ in 0..50 {
        let other = cluster.pick(std::slice::from_ref(&first), now).unwrap();
        assert!(!Rc::ptr_eq(&first, &other));
    }
    let second = cluster.pick(std::slice::from_ref(&first), now).unwrap();
    assert!(cluster.pick(&[first, second], now).is_ok());
}

#[test]
fn failures_eject_up_to_the_cap_and_the_ejected_come_back() {
    let now = Instant::now();
    let cluster = cluster(policy(), (1..=4).map(endpoint).collect(), now);
    let targets = cluster.view.borrow().targets.clone();
    for target in &targets {
        for _ in 0..10 {
            cluster.note(target, Outcome::Bad, now);
        }
    }
    assert_eq!(cluster.ejected(now), 2);
    assert_eq!(picks(&cluster, 100, now).into_keys().collect::<Vec<_>>(), [3, 4]);
    let later = now + Duration::from_secs(10);
    assert_eq!(cluster.ejected(later), 0);
    assert_eq!(picks(&cluster, 400, later).len(), 4);
}

#[test]
fn a_change_of_the_service_keeps_what_was_learnt_of_its_endpoints() {
    let now = Instant::now();
    let cluster = cluster(policy(), vec![endpoint(1), endpoint(2)], now);
    let bad = cluster.view.borrow().targets[0].clone();
    for _ in 0..3 {
        cluster.note(&bad, Outcome::Bad, now);
    }
    cluster.follow(&service(vec![endpoint(1), endpoint(2), endpoint(3)]), &Arc::default(), 1, now);
    assert_eq!(cluster.ejected(now), 1);
    // Another address is another machine: nothing of the old one holds.
    let mut moved = endpoint(1);
    moved.addresses = vec![IpAddr::from([10, 0, 0, 9])];
    cluster.follow(&service(vec![moved, endpoint(2)]), &Arc::default(), 1, now);
    assert_eq!(cluster.ejected(now), 0);
}

#[test]
fn an_endpoint_outside_the_mesh_needs_leave_for_plaintext() {
    let now = Instant::now();
    let mut outside = endpoint(1);
    outside.tunnel = Tunnel::None;
    let strict = cluster(policy(), vec![outside.clone()], now);
    let failure = strict.pick(&[], now).unwrap_err();
    assert_eq!(failure.flag, ResponseFlag::NoHealthyUpstream);
    assert!(failure.detail.contains("outside the mesh"), "{}", failure.detail);

    let lenient = Cluster::new(Wanted { plaintext: true, ..strict.wanted.clone() }, Rc::new(policy()), now);
    lenient.follow(&service(vec![outside]), &Arc::default(), 1, now);
    assert!(!lenient.pick(&[], now).unwrap().is_mtls());
}

#[test]
fn an_endpoint_with_a_proxy_but_no_identity_is_not_used_even_in_plaintext() {
    let now = Instant::now();
    let mut anonymous = endpoint(1);
    anonymous.identity = None;
    let wanted =
        Wanted { service: "api".parse().unwrap(), at: None, port: None, protocol: None, plaintext: true };
    let cluster = Cluster::new(wanted, Rc::new(policy()), now);
    cluster.follow(&service(vec![anonymous]), &Arc::default(), 1, now);
    assert_eq!(cluster.pick(&[], now).unwrap_err().flag, ResponseFlag::UpstreamIdentity);
}

#[test]
fn a_port_that_the_service_does_not_have_is_no_route() {
    let now = Instant::now();
    let wanted = Wanted {
        at: None,
        service: "api".parse().unwrap(),
        port: Some(PortRef::Number(9)),
        protocol: None,
        plaintext: false,
    };
    let cluster = Cluster::new(wanted, Rc::new(policy()), now);
    cluster.follow(&service(vec![endpoint(1)]), &Arc::default(), 1, now);
    let failure = cluster.pick(&[], now).unwrap_err();
    assert_eq!(failure.flag, ResponseFlag::NoRoute);
    assert!(failure.detail.contains("no port 9"), "{}", failure.detail);
}

#[test]
fn a_service_is_looked_up_again_when_the_revision_changes_and_once_a_second() {
    let now = Instant::now();
    let cluster = cluster(policy(), vec![endpoint(1)], now);
    assert!(cluster.current(1, now).is_some());
    assert!(cluster.current(2, now).is_none(), "the configuration has changed");
    // The look-up is what tells that an on-demand service is in use.
    assert!(cluster.current(1, now + TRUST).is_none());
    cluster.follow(&service(vec![endpoint(1)]), &Arc::default(), 2, now + TRUST);
    assert!(cluster.current(2, now + TRUST).is_some());
}

#[tokio::test(flavor = "local")]
async fn an_endpoint_whose_host_is_not_heard_gets_nothing_unless_there_is_no_other() {
    let now = Instant::now();
    let cluster = cluster(policy(), (1..=2).map(endpoint).collect(), now);
    let watch = crate::vanish::Watch::new(Duration::from_secs(1));
    let targets: Vec<Rc<Target>> = cluster.view.borrow().targets.clone();
    let ways: Vec<_> = targets.iter().map(|target| target.memory.goes(&watch, &target.via)).collect();
    assert!(cluster.has_other(&targets[0], now));
    assert!(ways[0].unheard() && !ways[0].unheard());
    assert_eq!(picks(&cluster, 100, now).get(&1), None);
    assert_eq!(cluster.count_out(now), (0, 1));
    assert!(!cluster.has_other(&targets[1], now), "where else?");
    ways[1].unheard();
    assert_eq!(picks(&cluster, 100, now).len(), 2, "all are silent: each is as good as the other");
    ways[0].heard();
    assert_eq!(picks(&cluster, 100, now).get(&2), None);
}

mod prefer;
