//! Which endpoints a Service wants its callers to use, and on which node an instance is.

use weft_model::Prefer;

use super::*;

fn prefers(spec: Value, mode: Option<&str>) -> (Option<Prefer>, Vec<String>) {
    let mut cluster = Cluster::new();
    let mut service = service("api");
    for (key, value) in spec.as_object().unwrap() {
        service["spec"][key] = value.clone();
    }
    service["metadata"]["annotations"] = json!({"service.kubernetes.io/topology-mode": mode});
    if mode.is_none() {
        service["metadata"]["annotations"] = json!(null);
    }
    cluster.put(Kind::Services, service);
    (cluster.services["shop/api"].prefer, cluster.problems())
}

#[test]
fn what_callers_prefer_is_said_in_kubernetes_words_and_order() {
    let none = Vec::<String>::new();
    for (spec, mode, expected) in [
        (json!({}), None, None),
        (json!({"trafficDistribution": "PreferClose"}), None, Some(Prefer::Zone)),
        (json!({"trafficDistribution": "PreferSameZone"}), None, Some(Prefer::Zone)),
        (json!({"trafficDistribution": "PreferSameNode"}), None, Some(Prefer::Node)),
        (json!({"internalTrafficPolicy": "Cluster"}), None, None),
        (json!({"internalTrafficPolicy": "Local"}), None, Some(Prefer::NodeOnly)),
        (
            json!({"internalTrafficPolicy": "Local", "trafficDistribution": "PreferClose"}),
            Some("Auto"),
            Some(Prefer::NodeOnly),
        ),
        (json!({}), Some("Auto"), Some(Prefer::Zone)),
        (json!({}), Some("auto"), Some(Prefer::Zone)),
        (json!({}), Some("Disabled"), None),
        (json!({"trafficDistribution": "PreferSameNode"}), Some("Auto"), Some(Prefer::Zone)),
        (json!({"trafficDistribution": null, "internalTrafficPolicy": null}), None, None),
        // What comes in by load balancers and node ports is kube-proxy's.
        (json!({"externalTrafficPolicy": "Local"}), None, None),
    ] {
        assert_eq!(prefers(spec.clone(), mode), (expected, none.clone()), "{spec} {mode:?}");
    }
}

#[test]
fn a_word_that_is_not_known_prefers_nothing_and_is_a_warning() {
    for (spec, field) in [
        (json!({"trafficDistribution": "PreferRack"}), "spec.trafficDistribution"),
        (json!({"internalTrafficPolicy": "Rack"}), "spec.internalTrafficPolicy"),
    ] {
        let (prefer, problems) = prefers(spec, None);
        assert_eq!((prefer, problems.len()), (None, 1));
        assert!(problems[0].contains(field) && problems[0].contains("it has no effect"), "{problems:?}");
    }
}

#[test]
fn an_instance_s_node_is_its_pod_s_within_its_cluster_and_that_of_another_endpoint_its_slice_s() {
    let mut cluster = Cluster::with_two_pods();
    assert_eq!(cluster.workload("pod/u-a").node.as_ref().unwrap().as_str(), "kubernetes/prod/node-1");
    let mut manual = slice("mine", "api", &[]);
    manual["endpoints"] =
        json!([{"addresses": ["10.9.0.1"], "nodeName": "node-2"}, {"addresses": ["10.9.0.2"]}]);
    cluster.put(Kind::Slices, manual);
    let node = |address: &str| {
        let one = cluster.workload(&format!("kubernetes/prod/shop/api/{address}"));
        one.node.as_ref().map(ToString::to_string)
    };
    assert_eq!((node("10.9.0.1"), node("10.9.0.2")), (Some("kubernetes/prod/node-2".to_owned()), None));
}

#[test]
fn hints_of_a_slice_change_nothing() {
    let mut cluster = Cluster::with_two_pods();
    let before = cluster.workload("pod/u-a").clone();
    let mut hinted = slice("api-1", "api", &[("a", "10.0.0.1"), ("b", "10.0.0.2")]);
    hinted["endpoints"][0]["hints"] = json!({"forZones": [{"name": "2"}], "forNodes": [{"name": "node-2"}]});
    cluster.put(Kind::Slices, hinted);
    assert_eq!((cluster.named, cluster.workload("pod/u-a") == &before), (0, true));
}
