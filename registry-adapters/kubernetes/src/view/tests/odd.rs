//! Objects that break expectations: each has the outcome that `lib.rs` lists.

use super::*;

#[test]
fn an_address_that_moves_to_another_pod_takes_no_identity_with_it() {
    let mut cluster = Cluster::with_two_pods();
    // `a` is deleted, and `new` has its address, while the slice still says `a`.
    cluster.delete(Kind::Pods, pod("a", "10.0.0.1"));
    assert!(!cluster.has("pod/u-a"));
    cluster.put(Kind::Pods, pod("new", "10.0.0.1"));
    assert!(!cluster.has("pod/u-a"), "who has the address now is not who the slice means");
    let new = cluster.workload("pod/u-new");
    assert!(new.services.is_empty(), "the new one is not in the old one's service");
    assert_eq!(new.identity.as_ref().unwrap().as_str(), "spiffe://weft.test/ns/shop/sa/sa-new");
}

#[test]
fn an_address_that_two_pods_claim_is_two_instances_with_an_identity_each() {
    let mut cluster = Cluster::with_two_pods();
    cluster.put(Kind::Pods, pod("new", "10.0.0.1"));
    cluster.put(Kind::Services, service("web"));
    cluster.put(Kind::Slices, slice("web-1", "web", &[("new", "10.0.0.1")]));
    let identity = |id: &str| cluster.workload(id).identity.as_ref().unwrap().to_string();
    assert_eq!(identity("pod/u-a"), "spiffe://weft.test/ns/shop/sa/sa-a");
    assert_eq!(identity("pod/u-new"), "spiffe://weft.test/ns/shop/sa/sa-new");
    assert_eq!(cluster.workload("pod/u-a").services.keys().next().unwrap().to_string(), "shop/api");
    assert_eq!(cluster.workload("pod/u-new").services.keys().next().unwrap().to_string(), "shop/web");
}

#[test]
fn a_pod_of_the_same_name_is_another_one() {
    let mut cluster = Cluster::with_two_pods();
    // A StatefulSet's pod comes again under its name; the slice lags behind.
    let mut again = pod("a", "10.0.0.7");
    again["metadata"]["uid"] = json!("u-second");
    again["metadata"]["annotations"] = json!({});
    cluster.delete(Kind::Pods, pod("a", "10.0.0.1"));
    cluster.put(Kind::Pods, again);
    assert!(!cluster.has("pod/u-a") && !cluster.has("pod/u-second"));
    // The late end of the first must not take the second away.
    let mut caught_up = slice("api-1", "api", &[("a", "10.0.0.7"), ("b", "10.0.0.2")]);
    caught_up["endpoints"][0]["targetRef"]["uid"] = json!("u-second");
    cluster.put(Kind::Slices, caught_up);
    cluster.delete(Kind::Pods, pod("a", "10.0.0.1"));
    assert!(cluster.has("pod/u-second"));
}

#[test]
fn an_endpoint_waits_for_its_pod() {
    let mut cluster = Cluster::with_two_pods();
    cluster
        .put(Kind::Slices, slice("api-1", "api", &[("a", "10.0.0.1"), ("b", "10.0.0.2"), ("c", "10.0.0.3")]));
    assert!(!cluster.has("pod/u-c"), "it would be called in plaintext");
    cluster.put(Kind::Pods, pod("c", "10.0.0.3"));
    assert_eq!(cluster.workload("pod/u-c").tunnel, Tunnel::Port(15008));
    assert_eq!(cluster.problems(), [""; 0]);
}

#[test]
fn a_pod_without_an_address_is_none_until_it_has_one() {
    let mut cluster = Cluster::with_two_pods();
    let mut early = pod("c", "10.0.0.3");
    early["status"] = json!({"phase": "Pending"});
    cluster.put(Kind::Pods, early);
    assert!(!cluster.has("pod/u-c"));
    cluster.put(Kind::Pods, pod("c", "10.0.0.3"));
    assert!(cluster.has("pod/u-c"));
}

#[test]
fn slices_of_a_service_that_is_not_there_are_not_used_and_hand_written_ones_are_named() {
    let mut cluster = Cluster::new();
    cluster.put(Kind::Pods, pod("a", "10.0.0.1"));
    cluster.put(Kind::Slices, slice("api-1", "api", &[("a", "10.0.0.1")]));
    assert!(cluster.workload("pod/u-a").services.is_empty());
    assert_eq!(cluster.problems(), [""; 0], "Kubernetes' own are about to go");
    let mut manual = slice("mine", "gone", &[]);
    manual["metadata"]["labels"] = json!({"kubernetes.io/service-name": "gone"});
    manual["endpoints"] = json!([{"addresses": ["10.9.0.1"]}]);
    cluster.put(Kind::Slices, manual.clone());
    assert!(cluster.only_problem().contains("there is no service shop/gone"), "{}", cluster.only_problem());
    assert_eq!(cluster.workloads.len(), 1);
    cluster.put(Kind::Services, service("gone"));
    assert_eq!((cluster.problems().len(), cluster.workloads.len()), (0, 2));
    cluster.delete(Kind::Services, service("gone"));
    assert_eq!((cluster.problems().len(), cluster.workloads.len()), (1, 1));
    cluster.delete(Kind::Slices, manual);
    assert_eq!(cluster.problems(), [""; 0]);
}

#[test]
fn a_hand_written_endpoint_has_no_identity_even_at_the_address_of_a_pod() {
    let mut cluster = Cluster::with_two_pods();
    cluster.put(Kind::Services, service("legacy"));
    let mut manual = slice("mine", "legacy", &[]);
    // The second claims a pod of another namespace, the third one without a uid.
    manual["endpoints"] = json!([
        {"addresses": ["10.0.0.1"]},
        {"addresses": ["10.9.0.2"], "targetRef": {"kind": "Pod", "namespace": "pay", "name": "a", "uid": "u-a"}},
        {"addresses": ["10.9.0.3"], "targetRef": {"kind": "Pod", "namespace": "shop", "name": "a"}},
    ]);
    cluster.put(Kind::Slices, manual);
    for address in ["10.0.0.1", "10.9.0.2", "10.9.0.3"] {
        let one = cluster.workload(&format!("kubernetes/prod/shop/legacy/{address}"));
        assert_eq!((one.identity.is_none(), one.tunnel, one.health), (true, Tunnel::None, Health::Healthy));
        assert_eq!(one.provenance.first().unwrap().object, "endpointslice shop/mine");
    }
    assert_eq!(cluster.workload("pod/u-a").services.len(), 1);
}

#[test]
fn an_endpoint_s_address_that_is_not_its_pod_s_is_not_called() {
    let mut cluster = Cluster::with_two_pods();
    cluster.put(Kind::Slices, slice("api-1", "api", &[("a", "10.66.6.6"), ("b", "10.0.0.2")]));
    let addresses: Vec<String> =
        cluster.workload("pod/u-a").addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.0.0.1"]);
}

#[test]
fn a_pod_on_its_node_s_network_has_no_identity_and_no_proxy_whatever_it_says() {
    let mut cluster = Cluster::with_two_pods();
    let mut host = pod("a", "10.0.0.1");
    host["spec"]["hostNetwork"] = json!(true);
    cluster.put(Kind::Pods, host);
    let a = cluster.workload("pod/u-a");
    assert_eq!((a.tunnel, a.identity.is_none(), a.services.len()), (Tunnel::None, true, 1));
    assert!(cluster.only_problem().contains("node's network"), "{}", cluster.only_problem());
}

#[test]
fn a_wrong_annotation_keeps_a_pod_s_last_good_state_and_everything_else_goes_on() {
    let mut cluster = Cluster::with_two_pods();
    let mut heavy = pod("a", "10.0.0.1");
    heavy["metadata"]["annotations"] = json!({"weft.dev/tunnel": "15008", "weft.dev/weight": "7"});
    cluster.put(Kind::Pods, heavy);
    let mut wrong = pod("a", "10.0.0.1");
    wrong["metadata"]["annotations"] = json!({"weft.dev/tunnel": "none", "weft.dev/weight": "lots"});
    wrong["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    cluster.put(Kind::Pods, wrong.clone());
    let a = cluster.workload("pod/u-a");
    assert_eq!((a.tunnel, a.weight, a.health), (Tunnel::Port(15008), 7, Health::Draining));
    let problem = cluster.only_problem();
    assert!(problem.starts_with("pod shop/a: metadata.annotations[weft.dev/weight]: "), "{problem}");
    // Also when everything is read anew.
    cluster.list(Kind::Pods, &[wrong, pod("b", "10.0.0.2")]);
    assert_eq!(cluster.workload("pod/u-a").weight, 7);
    cluster.put(Kind::Pods, pod("a", "10.0.0.1"));
    assert_eq!((cluster.workload("pod/u-a").weight, cluster.problems().len()), (Workload::DEFAULT_WEIGHT, 0));
}

#[test]
fn a_pod_whose_annotation_never_was_right_is_no_instance() {
    let mut cluster = Cluster::with_two_pods();
    let mut wrong = pod("c", "10.0.0.3");
    wrong["metadata"]["annotations"] = json!({"weft.dev/tunnel": "yes"});
    cluster.put(Kind::Pods, wrong.clone());
    cluster.put(Kind::Slices, slice("api-2", "api", &[("c", "10.0.0.3")]));
    assert!(!cluster.has("pod/u-c"));
    assert_eq!(cluster.problems().len(), 1);
    cluster.delete(Kind::Pods, wrong);
    assert_eq!(cluster.problems(), [""; 0], "what is wrong with it goes with it");
}

#[test]
fn unknown_and_meaningless_annotations_are_warnings_without_effect() {
    let mut cluster = Cluster::with_two_pods();
    let mut odd = pod("a", "10.0.0.1");
    odd["metadata"]["annotations"] = json!({"weft.dev/tunnel": "15008", "weft.dev/wieght": "7",
        "weft.dev/identity": "admin", "weft.dev/service": "other"});
    cluster.put(Kind::Pods, odd);
    let a = cluster.workload("pod/u-a");
    assert_eq!(a.identity.as_ref().unwrap().as_str(), "spiffe://weft.test/ns/shop/sa/sa-a");
    assert_eq!(a.services.keys().map(ToString::to_string).collect::<Vec<_>>(), ["shop/api"]);
    let problems = cluster.view.problems();
    assert_eq!(problems.len(), 3, "{problems:#?}");
    assert!(problems.iter().all(|problem| problem.severity == weft_registry::Severity::Warning));
}

#[test]
fn a_wrong_annotation_on_a_service_keeps_its_last_good_ports_and_a_new_one_its_instances() {
    let mut cluster = Cluster::with_two_pods();
    let mut wrong = service("api");
    wrong["metadata"]["annotations"] = json!({"weft.dev/protocol": "htpp"});
    wrong["spec"]["ports"] = json!([{"name": "http", "port": 81}]);
    cluster.put(Kind::Services, wrong.clone());
    // Only what the annotations say is kept: the rest is as it is now.
    assert_eq!(cluster.services["shop/api"].ports[0].number, 81);
    assert_eq!(cluster.services["shop/api"].ports[0].protocol.as_str(), "http1");
    assert_eq!(cluster.problems().len(), 1);
    cluster.delete(Kind::Services, service("api"));
    cluster.put(Kind::Services, wrong);
    assert!(cluster.services.is_empty());
    assert_eq!(cluster.workload("pod/u-a").services.len(), 1, "callers by name still find it");
}

#[test]
fn an_external_name_is_left_out_with_its_slices() {
    let mut cluster = Cluster::with_two_pods();
    let mut external = service("api");
    external["spec"] = json!({"type": "ExternalName", "externalName": "api.example.org"});
    cluster.put(Kind::Services, external);
    assert!(cluster.services.is_empty());
    assert!(cluster.workload("pod/u-a").services.is_empty());
    assert!(cluster.only_problem().contains("api.example.org"), "{}", cluster.only_problem());
    cluster.put(Kind::Services, service("api"));
    assert_eq!((cluster.services.len(), cluster.workload("pod/u-a").services.len()), (1, 1));
}

#[test]
fn each_cluster_keeps_its_own_api_server_to_itself() {
    let mut cluster = Cluster::new();
    let mut own = service("kubernetes");
    own["metadata"]["namespace"] = json!("default");
    cluster.put(Kind::Services, own);
    let mut slice = slice("kubernetes", "kubernetes", &[]);
    slice["metadata"] = json!({"namespace": "default", "name": "kubernetes",
        "labels": {"kubernetes.io/service-name": "kubernetes"}});
    slice["endpoints"] = json!([{"addresses": ["10.8.0.1"]}]);
    cluster.put(Kind::Slices, slice);
    assert!(cluster.services.is_empty() && cluster.workloads.is_empty() && cluster.problems().is_empty());
}

#[test]
fn duplicate_ports_count_once_and_ports_that_are_not_tcp_not_at_all() {
    let mut cluster = Cluster::with_two_pods();
    let mut service = service("api");
    service["spec"]["ports"] = json!([
        {"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "http", "port": 81}, {"name": "other", "port": 80}, {"name": "bad", "port": 70000},
    ]);
    cluster.put(Kind::Services, service);
    let ports: Vec<u16> = cluster.services["shop/api"].ports.iter().map(|port| port.number).collect();
    assert_eq!((ports, cluster.problems().len()), (vec![80], 3));
    let mut odd = slice("api-1", "api", &[("a", "10.0.0.1")]);
    odd["ports"] = json!([
        {"name": "http", "port": 8080}, {"name": "http", "port": 8080}, {"name": "admin", "port": 8080},
        {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "all"}, {"name": "neg", "port": -1},
    ]);
    cluster.put(Kind::Slices, odd);
    let ports: Vec<_> = cluster.workload("pod/u-a").services.values().flatten().cloned().collect();
    let ports: Vec<_> =
        ports.iter().map(|port| (port.name.as_ref().unwrap().as_str(), port.number)).collect();
    assert_eq!((ports, cluster.problems().len()), (vec![("admin", 8080), ("http", 8080)], 4));
}

#[test]
fn addresses_that_are_none_are_errors_and_host_names_are_left_out() {
    let mut cluster = Cluster::new();
    cluster.put(Kind::Services, service("api"));
    let mut odd = slice("api-1", "api", &[]);
    odd["endpoints"] = json!([{"addresses": ["10.0.0.999"]}, {"addresses": []}, {"addresses": ["0.0.0.0"]},
        {"addresses": ["10.0.0.5", "10.0.0.6"]}]);
    cluster.put(Kind::Slices, odd.clone());
    assert_eq!(cluster.workloads.keys().collect::<Vec<_>>(), ["kubernetes/prod/shop/api/10.0.0.5"]);
    assert_eq!(cluster.problems().len(), 3);
    odd["addressType"] = json!("FQDN");
    odd["endpoints"] = json!([{"addresses": ["db.example.org"]}]);
    cluster.put(Kind::Slices, odd);
    assert!(cluster.workloads.is_empty() && cluster.only_problem().contains("host names"));
}

#[test]
fn a_headless_service_has_no_address_and_needs_no_port() {
    let mut cluster = Cluster::with_two_pods();
    let mut headless = service("api");
    headless["spec"] = json!({"clusterIP": "None", "clusterIPs": ["None"]});
    cluster.put(Kind::Services, headless);
    let service = &cluster.services["shop/api"];
    assert!(service.addresses.is_empty() && service.ports.is_empty());
    let mut bare = slice("api-1", "api", &[("a", "10.0.0.1"), ("b", "10.0.0.2")]);
    bare["ports"] = json!(null);
    cluster.put(Kind::Slices, bare);
    assert_eq!(cluster.workload("pod/u-a").services.values().next().unwrap().len(), 0);
}

#[test]
fn names_of_the_greatest_length_are_names() {
    let long = "a".repeat(63);
    let mut cluster = Cluster::new();
    let named = |mut value: Value| {
        value["metadata"]["namespace"] = json!(long);
        value
    };
    cluster.put(Kind::Services, named(service(&long)));
    let mut long_pod = named(pod(&long, "10.0.0.1"));
    long_pod["spec"]["serviceAccountName"] = json!("s".repeat(253));
    cluster.put(Kind::Pods, long_pod);
    let mut slice = named(slice(&"s".repeat(253), &long, &[(&long, "10.0.0.1")]));
    slice["endpoints"][0]["targetRef"]["namespace"] = json!(long);
    cluster.put(Kind::Slices, slice);
    let workload = cluster.workload(&format!("pod/u-{long}"));
    assert_eq!(workload.services.keys().next().unwrap().to_string(), format!("{long}/{long}"));
    assert_eq!(cluster.problems(), [""; 0]);
}

#[test]
fn names_that_no_server_would_give_are_errors_and_no_panic() {
    let mut cluster = Cluster::with_two_pods();
    let mut bad = service("a b");
    cluster.put(Kind::Services, bad.clone());
    bad["metadata"]["name"] = json!("");
    cluster.put(Kind::Services, bad);
    let mut pod = pod("c", "10.0.0.3");
    pod["metadata"]["uid"] = json!("*");
    cluster.put(Kind::Pods, pod.clone());
    pod["metadata"]["uid"] = json!("");
    cluster.put(Kind::Pods, pod.clone());
    cluster.delete(Kind::Pods, pod);
    let mut slice = slice("api-2", "api", &[("c", "10.0.0.3")]);
    slice["endpoints"][0]["targetRef"]["uid"] = json!("a\n");
    cluster.put(Kind::Slices, slice);
    assert_eq!((cluster.workloads.len(), cluster.services.len()), (2, 1));
    assert!(cluster.problems().len() >= 3, "{:?}", cluster.problems());
}
