//! What a change costs: counted in instances that are made anew and told, not in time.

use super::*;

const SERVICES: usize = 50;
const PODS: usize = 20;

/// 50 services of 20 pods each, in slices of 10.
fn large() -> Cluster {
    let mut cluster = Cluster::unread(NamespaceSettings::default());
    let (mut services, mut pods, mut slices) = (Vec::new(), Vec::new(), Vec::new());
    for s in 0..SERVICES {
        let name = format!("s{s}");
        services.push(service(&name));
        let members: Vec<(String, String)> =
            (0..PODS).map(|p| (format!("s{s}-p{p}"), format!("10.{s}.0.{p}"))).collect();
        pods.extend(members.iter().map(|(name, ip)| pod(name, ip)));
        for (i, part) in members.chunks(10).enumerate() {
            let part: Vec<(&str, &str)> =
                part.iter().map(|(name, ip)| (name.as_str(), ip.as_str())).collect();
            slices.push(slice(&format!("{name}-{i}"), &name, &part));
        }
    }
    cluster.list(Kind::Services, &services);
    cluster.list(Kind::Slices, &slices);
    cluster.list(Kind::Pods, &pods);
    cluster.list(Kind::Nodes, &[node("node-1", "eu", "1")]);
    assert_eq!((cluster.workloads.len(), cluster.services.len()), (SERVICES * PODS, SERVICES));
    cluster
}

fn members(from: usize) -> Vec<(String, String)> {
    (from..from + 10).map(|p| (format!("s7-p{p}"), format!("10.7.0.{p}"))).collect()
}

/// How many instances a change makes anew, and how many keys it tells.
fn cost(cluster: &mut Cluster, change: impl FnOnce(&mut Cluster)) -> (usize, usize) {
    cluster.view.made = 0;
    change(cluster);
    (cluster.view.made, cluster.named)
}

#[test]
fn a_change_costs_what_it_touches_and_not_the_cluster() {
    let mut cluster = large();
    let part = members(0);
    let part: Vec<(&str, &str)> = part.iter().map(|(name, ip)| (name.as_str(), ip.as_str())).collect();
    let mut one_ill = slice("s7-0", "s7", &part);
    one_ill["endpoints"][3]["conditions"] = json!({"ready": false});
    assert_eq!(cost(&mut cluster, |c| c.put(Kind::Slices, one_ill.clone())), (1, 1));
    assert_eq!(cost(&mut cluster, |c| c.put(Kind::Slices, one_ill)), (0, 0), "nothing is new");
    assert_eq!(cost(&mut cluster, |c| c.put(Kind::Slices, slice("s7-0", "s7", &part[1..]))), (2, 2));
    let mut ended = pod("s7-p15", "10.7.0.15");
    ended["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(cost(&mut cluster, |c| c.put(Kind::Pods, ended)), (1, 1));
    let mut port = service("s9");
    port["spec"]["ports"] = json!([{"name": "http", "port": 81}]);
    assert_eq!(
        cost(&mut cluster, |c| c.put(Kind::Services, port)),
        (PODS, 1),
        "its instances may speak another protocol"
    );
    assert_eq!(cost(&mut cluster, |c| c.delete(Kind::Services, service("s9"))), (PODS, PODS + 1));
}

#[test]
fn status_of_a_pod_that_means_nothing_costs_nothing() {
    let mut cluster = large();
    let mut restarted = pod("s7-p1", "10.7.0.1");
    restarted["status"]["containerStatuses"] = json!([{"restartCount": 3}]);
    restarted["metadata"]["resourceVersion"] = json!("900");
    assert_eq!(cost(&mut cluster, |c| c.put(Kind::Pods, restarted)), (0, 0));
    let mut heartbeat = node("node-1", "eu", "1");
    heartbeat["status"] = json!({"conditions": [{"type": "Ready", "lastHeartbeatTime": "now"}]});
    assert_eq!(cost(&mut cluster, |c| c.put(Kind::Nodes, heartbeat)), (0, 0));
}

#[test]
fn an_unchanged_list_makes_nothing_anew() {
    let mut cluster = large();
    let nodes = [node("node-1", "eu", "1")];
    assert_eq!(cost(&mut cluster, |c| c.list(Kind::Nodes, &nodes)), (0, 0));
}
