//! Writing into a real API server, which has neither controllers nor nodes: the test is all of them.

use http::Method;
use serde_json::{Value, json};
use weft_registry_kubernetes::testkit::ApiServer;

use super::objects;

pub(crate) fn slices(namespace: &str) -> String {
    format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices")
}

/// A namespace to work in, and the right to read for the user `weft`.
pub(crate) async fn prepare(server: &ApiServer, namespace: &str) {
    server.put("/api/v1/namespaces", &json!({"metadata": {"name": namespace}})).await.unwrap();
    allow(server).await;
}

/// Gives the user `weft` what the documentation says the adapter needs.
pub(crate) async fn allow(server: &ApiServer) {
    allow_but(server, &[]).await;
}

/// The same without these kinds.
pub(crate) async fn allow_but(server: &ApiServer, without: &[&str]) {
    let core: Vec<&str> = ["services", "pods", "nodes", "namespaces"]
        .into_iter()
        .filter(|kind| !without.contains(kind))
        .collect();
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "weft-reads"},
        "rules": [
            {"apiGroups": [""], "resources": core, "verbs": ["list", "watch"]},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
        ],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "weft-reads"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "weft-reads"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "weft"}],
    });
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    server.put(&format!("{rbac}/clusterroles"), &role).await.unwrap();
    server.put(&format!("{rbac}/clusterrolebindings"), &binding).await.unwrap();
}

/// Takes the right to read away.
pub(crate) async fn forbid(server: &ApiServer) {
    server.delete("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/weft-reads").await.unwrap();
}

pub(crate) async fn put_service(server: &ApiServer, namespace: &str, name: &str, port: u16) {
    let mut service = objects::service(namespace, name, port);
    // The server gives addresses itself; it has no selector, so that nobody else writes its slices.
    service["spec"] = json!({"ports": service["spec"]["ports"]});
    server.put(&format!("/api/v1/namespaces/{namespace}/services"), &service).await.unwrap();
}

/// A running, ready pod with a proxy. Returns its uid.
pub(crate) async fn put_pod(server: &ApiServer, namespace: &str, name: &str, ip: &str) -> String {
    let mut pod = objects::pod(namespace, name, ip);
    pod["metadata"].as_object_mut().unwrap().remove("uid");
    pod["spec"]["containers"] = json!([{"name": "app", "image": "none"}]);
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let own = format!("{path}/{name}");
    // A pod's spec can't be changed; it is made once.
    if server.send(Method::GET, &own, &Value::Null).await.is_err() {
        server.put(&path, &pod).await.unwrap();
    }
    let there = server.send(Method::GET, &own, &Value::Null).await.unwrap();
    there["metadata"]["uid"].as_str().unwrap().to_owned()
}
