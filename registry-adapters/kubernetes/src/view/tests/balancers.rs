//! Which addresses of load balancers become a service's.

use super::*;

fn balanced(name: &str, ingress: Value) -> Value {
    let mut service = service(name);
    service["spec"]["type"] = json!("LoadBalancer");
    service["spec"]["clusterIPs"] = json!([]);
    service["spec"]["externalIPs"] = json!(["203.0.113.9"]);
    service["status"] = json!({"loadBalancer": {"ingress": ingress}});
    service
}

fn addresses(cluster: &Cluster, name: &str) -> Vec<String> {
    cluster.services[name].addresses.iter().map(|address| address.ip.to_string()).collect()
}

#[test]
fn a_load_balancer_s_virtual_addresses_are_the_service_s_and_nothing_else_of_it() {
    let mut cluster = Cluster::new();
    let ingress = json!([
        {"ip": "192.0.2.1"}, {"ip": "192.0.2.2", "ipMode": "VIP"}, {"ip": "192.0.2.3", "ipMode": "Proxy"},
        {"hostname": "lb.example.org"}, {"ip": ""}, {"ip": "2001:db8::1", "ports": null},
    ]);
    cluster.put(Kind::Services, balanced("api", ingress.clone()));
    assert_eq!(addresses(&cluster, "shop/api"), ["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
    assert_eq!(cluster.problems(), [""; 0]);
    let mut other_type = balanced("api", ingress);
    other_type["spec"]["type"] = json!("NodePort");
    cluster.put(Kind::Services, other_type);
    assert_eq!(addresses(&cluster, "shop/api"), [""; 0], "what is left over in a status says nothing");
    cluster.put(Kind::Services, balanced("api", json!(null)));
    assert_eq!(addresses(&cluster, "shop/api"), [""; 0], "none yet");
}

#[test]
fn an_address_that_no_caller_could_mean_is_left_out_with_a_warning() {
    let mut cluster = Cluster::new();
    let ingress = json!([{"ip": "127.0.0.1"}, {"ip": "::"}, {"ip": "224.0.0.1"}, {"ip": "192.0.2.999"}, {"ip": "192.0.2.1"}]);
    cluster.put(Kind::Services, balanced("api", ingress));
    assert_eq!(
        (addresses(&cluster, "shop/api"), cluster.problems().len()),
        (vec!["192.0.2.1".to_owned()], 4)
    );
}

#[test]
fn an_address_that_two_services_share_is_neither_s_until_one_lets_it_go() {
    let mut cluster = Cluster::new();
    let shared = || json!([{"ip": "192.0.2.1"}]);
    cluster.put(Kind::Services, balanced("api", shared()));
    assert_eq!(addresses(&cluster, "shop/api"), ["192.0.2.1"]);
    cluster.put(Kind::Services, balanced("web", shared()));
    let both = ["shop/api", "shop/web"].map(|name| addresses(&cluster, name).len());
    assert_eq!(both, [0, 0], "the port decides whose it is, and an address has none");
    let problems = cluster.problems();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems[0].contains("service shop/api") && problems[0].contains("address of shop/web"),
        "{problems:?}"
    );
    cluster.delete(Kind::Services, balanced("web", shared()));
    assert_eq!(addresses(&cluster, "shop/api"), ["192.0.2.1"]);
    assert_eq!(cluster.problems(), [""; 0]);
    cluster.put(Kind::Services, balanced("web", shared()));
    cluster.put(Kind::Services, balanced("web", json!([{"ip": "192.0.2.2"}])));
    assert_eq!(addresses(&cluster, "shop/api"), ["192.0.2.1"]);
    assert_eq!(addresses(&cluster, "shop/web"), ["192.0.2.2"]);
}
