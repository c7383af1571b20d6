//! Objects as the API writes them, down to what the adapter reads.

use serde_json::{Value, json};

pub(crate) fn service(namespace: &str, name: &str, port: u16) -> Value {
    json!({
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"],
                 "ports": [{"name": "http", "port": port, "protocol": "TCP", "targetPort": port}]},
    })
}

/// A running, ready pod with a proxy.
pub(crate) fn pod(namespace: &str, name: &str, ip: &str) -> Value {
    json!({
        "metadata": {"namespace": namespace, "name": name, "uid": format!("uid-{name}"),
                     "annotations": {"weft.dev/tunnel": "15008"}},
        "spec": {"nodeName": "node-1", "serviceAccountName": "sa"},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                   "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

/// A slice with these pods, each with its address.
pub(crate) fn slice(
    namespace: &str,
    name: &str,
    service: &str,
    port: u16,
    pods: &[(&str, &str, bool)],
) -> Value {
    let endpoints: Vec<Value> = pods
        .iter()
        .map(|(pod, ip, ready)| {
            json!({
                "addresses": [ip], "nodeName": "node-1",
                "conditions": {"ready": ready, "serving": ready, "terminating": false},
                "targetRef": {"kind": "Pod", "namespace": namespace, "name": pod, "uid": format!("uid-{pod}")},
            })
        })
        .collect();
    json!({
        "metadata": {"namespace": namespace, "name": name, "labels": {
            "kubernetes.io/service-name": service,
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
        "endpoints": endpoints,
    })
}

pub(crate) fn node(name: &str, region: &str, zone: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {
        "topology.kubernetes.io/region": region, "topology.kubernetes.io/zone": zone}}})
}
