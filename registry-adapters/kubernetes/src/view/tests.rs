//! What objects lead to, the odd ones first of all; and that a change costs what it touches.

mod balancers;
mod costs;
mod namespaces;
mod odd;
mod reading;
mod traffic;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use weft_model::{Entry, EntryKey, Health, Scope, Service, Tunnel, Workload};
use weft_registry::RegistryErrorKind;

use super::*;
use crate::object::{Kind, WatchLine, decode_line};
use crate::settings::KubernetesSettings;

/// A view with what it has told, as the catalog would hold it.
struct Cluster {
    view: View,
    services: BTreeMap<String, Service>,
    workloads: BTreeMap<String, Arc<Workload>>,
    /// How many keys the last events named.
    named: usize,
    resets: usize,
}

fn source(kind: Kind) -> Source {
    Source { kind, namespace: None }
}

const KINDS: [Kind; 4] = [Kind::Services, Kind::Slices, Kind::Pods, Kind::Nodes];

impl Cluster {
    /// A cluster in which nothing was read yet.
    fn unread(names: NamespaceSettings) -> Self {
        let context = Context {
            registry: "kubernetes/prod".parse().unwrap(),
            trust_domain: "weft.test".parse().unwrap(),
            network: KubernetesSettings::default().network,
        };
        let namespaces = names.selector.is_some().then_some(Kind::Namespaces);
        let sources = KINDS.into_iter().chain(namespaces).map(source).collect();
        let view = View::new(context, names, sources);
        Self { view, services: BTreeMap::new(), workloads: BTreeMap::new(), named: 0, resets: 0 }
    }

    /// An empty cluster.
    fn new() -> Self {
        let mut cluster = Self::unread(NamespaceSettings::default());
        KINDS.into_iter().for_each(|kind| cluster.list(kind, &[]));
        assert_eq!(cluster.resets, 1);
        cluster
    }

    /// The service `shop/api` with the pods `a` and `b` on a node of `eu/1`.
    fn with_two_pods() -> Self {
        let mut cluster = Self::new();
        cluster.put(Kind::Nodes, node("node-1", "eu", "1"));
        cluster.put(Kind::Services, service("api"));
        cluster.put(Kind::Pods, pod("a", "10.0.0.1"));
        cluster.put(Kind::Pods, pod("b", "10.0.0.2"));
        cluster.put(Kind::Slices, slice("api-1", "api", &[("a", "10.0.0.1"), ("b", "10.0.0.2")]));
        assert_eq!(cluster.workloads.len(), 2);
        cluster
    }

    fn list(&mut self, kind: Kind, objects: &[Value]) {
        let objects = objects.iter().map(|value| object(kind, value)).collect();
        self.view.on_listed(&source(kind), objects, true);
        self.settle();
    }

    fn put(&mut self, kind: Kind, value: Value) {
        self.view.on_changed(object(kind, &value));
        self.settle();
    }

    fn delete(&mut self, kind: Kind, value: Value) {
        self.view.on_deleted(&object(kind, &value));
        self.settle();
    }

    fn fail(&mut self, kind: Kind, status: u16) {
        self.view.on_failed(&source(kind), KubernetesError::of_status(kind.as_str(), status, b"no"));
        self.settle();
    }

    fn settle(&mut self) {
        self.named = 0;
        for event in self.view.settle(7) {
            self.apply(event);
        }
    }

    fn apply(&mut self, event: RegistryEvent) {
        match event {
            RegistryEvent::Reset { scope, entries } => {
                assert_eq!(scope, Scope::All);
                self.resets += 1;
                self.services.clear();
                self.workloads.clear();
                self.upsert(entries);
            }
            RegistryEvent::Upsert(entries) => self.upsert(entries),
            RegistryEvent::Remove(keys) => {
                self.named += keys.len();
                for key in keys {
                    let was_there = match key {
                        EntryKey::Service(key) => self.services.remove(&key.to_string()).is_some(),
                        EntryKey::Workload(id) => self.workloads.remove(id.as_str()).is_some(),
                    };
                    assert!(was_there, "it removes what it never told");
                }
            }
        }
    }

    fn upsert(&mut self, entries: Vec<Entry>) {
        self.named += entries.len();
        for entry in entries {
            match entry {
                Entry::Service(service) => drop(self.services.insert(service.key.to_string(), service)),
                Entry::Workload(workload) => drop(self.workloads.insert(workload.id.to_string(), workload)),
            }
        }
    }

    fn workload(&self, id: &str) -> &Workload {
        self.workloads.get(id).unwrap_or_else(|| panic!("no {id} in {:?}", self.workloads.keys()))
    }

    fn has(&self, id: &str) -> bool {
        self.workloads.contains_key(id)
    }

    fn problems(&self) -> Vec<String> {
        self.view.problems().iter().map(ToString::to_string).collect()
    }

    fn only_problem(&self) -> String {
        let problems = self.problems();
        let [problem] = problems.as_slice() else { panic!("not one problem: {problems:#?}") };
        problem.clone()
    }
}

fn object(kind: Kind, value: &Value) -> Object {
    let line = json!({"type": "ADDED", "object": value}).to_string();
    match decode_line(kind, line.as_bytes()).unwrap() {
        Some(WatchLine::Changed(decoded)) => decoded.object,
        other => panic!("{other:?}"),
    }
}

fn service(name: &str) -> Value {
    json!({
        "metadata": {"namespace": "shop", "name": name},
        "spec": {"clusterIPs": ["10.96.0.1"], "ports": [{"name": "http", "port": 80}]},
    })
}

/// A ready pod with a proxy, of the service account `sa-NAME`.
fn pod(name: &str, ip: &str) -> Value {
    json!({
        "metadata": {"namespace": "shop", "name": name, "uid": format!("u-{name}"),
                     "annotations": {"weft.dev/tunnel": "15008"}},
        "spec": {"nodeName": "node-1", "serviceAccountName": format!("sa-{name}")},
        "status": {"phase": "Running", "podIPs": [{"ip": ip}], "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

fn endpoint(pod: &str, ip: &str) -> Value {
    json!({
        "addresses": [ip], "conditions": {"ready": true},
        "targetRef": {"kind": "Pod", "namespace": "shop", "name": pod, "uid": format!("u-{pod}")},
    })
}

/// A slice as Kubernetes keeps it, on port 8080.
fn slice(name: &str, service: &str, pods: &[(&str, &str)]) -> Value {
    let endpoints: Vec<Value> = pods.iter().map(|(pod, ip)| endpoint(pod, ip)).collect();
    json!({
        "metadata": {"namespace": "shop", "name": name, "labels": {
            "kubernetes.io/service-name": service,
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}], "endpoints": endpoints,
    })
}

fn node(name: &str, region: &str, zone: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {
        "topology.kubernetes.io/region": region, "topology.kubernetes.io/zone": zone}}})
}

#[test]
fn a_service_and_its_pods_become_one_service_and_its_instances() {
    let cluster = Cluster::with_two_pods();
    let service = &cluster.services["shop/api"];
    assert_eq!(service.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["default/10.96.0.1"]);
    let [port] = service.ports.as_slice() else { panic!("{service:?}") };
    assert_eq!((port.number, port.protocol.as_str()), (80, "http1"));
    let a = cluster.workload("pod/u-a");
    assert_eq!(a.identity.as_ref().unwrap().as_str(), "spiffe://weft.test/ns/shop/sa/sa-a");
    assert_eq!(
        (a.tunnel, a.health, a.locality.to_string()),
        (Tunnel::Port(15008), Health::Healthy, "eu/1".into())
    );
    assert_eq!(a.addresses, ["10.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
    let ports = &a.services[&"shop/api".parse().unwrap()];
    assert_eq!((ports[0].number, ports[0].protocol.as_str()), (8080, "http1"));
    assert_eq!(a.provenance.first().unwrap().object, "pod shop/a");
    assert_eq!(cluster.problems(), [""; 0]);
}

#[test]
fn nothing_is_told_until_everything_was_read_and_then_all_of_it_at_once() {
    let mut cluster = Cluster::unread(NamespaceSettings::default());
    cluster.list(Kind::Slices, &[slice("api-1", "api", &[("a", "10.0.0.1")])]);
    cluster.list(Kind::Services, &[service("api")]);
    cluster.put(Kind::Services, super::tests::service("web"));
    cluster.list(Kind::Nodes, &[]);
    assert_eq!((cluster.resets, cluster.services.len()), (0, 0));
    cluster.list(Kind::Pods, &[pod("a", "10.0.0.1")]);
    assert_eq!((cluster.resets, cluster.services.len(), cluster.workloads.len()), (1, 2, 1));
}

#[test]
fn conditions_become_health_and_the_pod_s_own_end_is_seen_first() {
    let mut cluster = Cluster::with_two_pods();
    for (conditions, health) in [
        (json!({"ready": true, "serving": true, "terminating": false}), Health::Healthy),
        (json!({"ready": false, "serving": false, "terminating": false}), Health::Unhealthy),
        (json!({"ready": false, "serving": true, "terminating": true}), Health::Draining),
        (json!({"ready": true, "serving": true, "terminating": true}), Health::Draining),
        (json!({"ready": false, "serving": false, "terminating": true}), Health::Unhealthy),
        (json!({}), Health::Healthy),
    ] {
        let mut changed = slice("api-1", "api", &[("a", "10.0.0.1"), ("b", "10.0.0.2")]);
        changed["endpoints"][0]["conditions"] = conditions.clone();
        cluster.put(Kind::Slices, changed);
        assert_eq!(cluster.workload("pod/u-a").health, health, "{conditions}");
        assert_eq!(cluster.workload("pod/u-b").health, Health::Healthy);
    }
    let mut ending = pod("a", "10.0.0.1");
    ending["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    cluster.put(Kind::Pods, ending);
    assert_eq!(cluster.workload("pod/u-a").health, Health::Draining);
}

#[test]
fn a_pod_of_two_services_is_one_instance_with_the_ports_of_each_and_the_worst_health() {
    let mut cluster = Cluster::with_two_pods();
    cluster.put(Kind::Services, service("admin"));
    let mut admin = slice("admin-1", "admin", &[("a", "10.0.0.1")]);
    admin["ports"] = json!([{"name": "http", "port": 9090}]);
    // A service that publishes pods that are not ready.
    admin["endpoints"][0]["conditions"] = json!({"ready": true});
    cluster.put(Kind::Slices, admin.clone());
    let a = cluster.workload("pod/u-a");
    let ports: Vec<_> = a.services.iter().map(|(key, ports)| (key.to_string(), ports[0].number)).collect();
    assert_eq!(ports, [("shop/admin".to_owned(), 9090), ("shop/api".to_owned(), 8080)]);
    assert_eq!(cluster.workloads.len(), 2);
    let mut api = slice("api-1", "api", &[("a", "10.0.0.1"), ("b", "10.0.0.2")]);
    api["endpoints"][0]["conditions"] = json!({"ready": false});
    cluster.put(Kind::Slices, api);
    assert_eq!(cluster.workload("pod/u-a").health, Health::Unhealthy);
    cluster.delete(Kind::Slices, admin);
    assert_eq!(cluster.workload("pod/u-a").services.len(), 1);
}

#[test]
fn slices_of_both_address_families_are_one_instance_in_the_pod_s_order() {
    let mut cluster = Cluster::with_two_pods();
    let mut dual = pod("a", "10.0.0.1");
    dual["status"]["podIPs"] = json!([{"ip": "fd00::1"}, {"ip": "10.0.0.1"}]);
    cluster.put(Kind::Pods, dual);
    // No service of that family yet: what listens there is not known to.
    assert_eq!(cluster.workload("pod/u-a").addresses.len(), 1);
    let mut six = slice("api-6", "api", &[("a", "fd00::1")]);
    six["addressType"] = json!("IPv6");
    cluster.put(Kind::Slices, six);
    let a = cluster.workload("pod/u-a");
    assert_eq!(a.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["fd00::1", "10.0.0.1"]);
    assert_eq!((cluster.workloads.len(), a.services.len()), (2, 1));
    assert_eq!(a.services.values().next().unwrap().len(), 1);
}

#[test]
fn an_endpoint_that_moves_from_slice_to_slice_is_never_away() {
    let mut cluster = Cluster::with_two_pods();
    cluster.put(Kind::Slices, slice("api-2", "api", &[("a", "10.0.0.1")]));
    cluster.put(Kind::Slices, slice("api-1", "api", &[("b", "10.0.0.2")]));
    assert!(cluster.has("pod/u-a") && cluster.has("pod/u-b"));
    cluster.delete(Kind::Slices, slice("api-2", "api", &[]));
    assert!(!cluster.has("pod/u-a") || cluster.workload("pod/u-a").services.is_empty());
}

#[test]
fn protocols_come_from_the_annotation_then_app_protocol_then_the_port_s_name() {
    let of = |port: Value, annotations: Value| {
        let mut cluster = Cluster::new();
        let mut service = service("api");
        service["spec"]["ports"] = json!([port]);
        service["metadata"]["annotations"] = annotations;
        cluster.put(Kind::Services, service);
        cluster.services["shop/api"].ports[0].protocol.as_str()
    };
    let none = json!(null);
    assert_eq!(of(json!({"name": "grpc-admin", "port": 1}), none.clone()), "grpc");
    assert_eq!(of(json!({"name": "tcp", "port": 1}), none.clone()), "tcp");
    assert_eq!(
        of(json!({"name": "http2-x", "port": 1, "appProtocol": "kubernetes.io/ws"}), none.clone()),
        "http1"
    );
    assert_eq!(
        of(json!({"name": "http", "port": 1, "appProtocol": "kubernetes.io/h2c"}), none.clone()),
        "http2"
    );
    assert_eq!(of(json!({"name": "http", "port": 1, "appProtocol": "HTTPS"}), none.clone()), "tls");
    assert_eq!(
        of(json!({"name": "http", "port": 1, "appProtocol": "example.com/odd"}), none.clone()),
        "detect"
    );
    assert_eq!(of(json!({"name": "detect-me", "port": 1}), none.clone()), "detect");
    assert_eq!(of(json!({"port": 1}), none), "detect");
    let one = json!({"weft.dev/protocol-grpc": "tcp"});
    assert_eq!(of(json!({"name": "grpc", "port": 1, "appProtocol": "grpc"}), one), "tcp");
}

#[test]
fn a_pod_that_is_in_no_service_is_an_instance_where_it_has_a_proxy() {
    let mut cluster = Cluster::new();
    let mut plain = pod("job", "10.0.0.9");
    plain["metadata"]["annotations"] = json!({});
    cluster.put(Kind::Pods, plain);
    assert!(!cluster.has("pod/u-job"));
    cluster.put(Kind::Pods, pod("job", "10.0.0.9"));
    let job = cluster.workload("pod/u-job");
    assert!(job.services.is_empty() && job.identity.is_some() && job.health == Health::Healthy);
    let mut done = pod("job", "10.0.0.9");
    done["status"]["phase"] = json!("Succeeded");
    cluster.put(Kind::Pods, done);
    assert!(!cluster.has("pod/u-job"), "a finished pod's address may be somebody else's");
}

#[test]
fn a_node_s_place_is_its_pods_and_follows_its_labels() {
    let mut cluster = Cluster::with_two_pods();
    cluster.put(Kind::Nodes, node("node-1", "eu", "2"));
    assert_eq!(cluster.workload("pod/u-a").locality.to_string(), "eu/2");
    cluster.put(Kind::Nodes, node("node-1", "", "2"));
    assert!(cluster.workload("pod/u-a").locality.is_unknown(), "a zone alone says nothing");
    cluster.put(Kind::Nodes, node("node-1", "us", ""));
    assert_eq!(cluster.workload("pod/u-a").locality.to_string(), "us");
    cluster.delete(Kind::Nodes, node("node-1", "", ""));
    assert!(cluster.workload("pod/u-a").locality.is_unknown());
}
