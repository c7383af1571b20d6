//! The API's fields, as they are written, and the objects that are made of them.
//!
//! What a server leaves out has its default, and so has what it writes as `null`.

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use weft_model::Locality;

use super::decode::Decoded;
use super::{Endpoint, Node, Object, ObjectKey, Picked, Pod, Port, Service, Slice, Traffic};

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata {
    name: Box<str>,
    namespace: Box<str>,
    uid: Box<str>,
    pub(super) resource_version: String,
    labels: Picked,
    pub(super) annotations: Picked,
    deletion_timestamp: Option<IgnoredAny>,
}

impl Metadata {
    fn key(&self) -> ObjectKey {
        ObjectKey::new(&self.namespace, &self.name)
    }

    fn label(&self, keys: &[&str]) -> Option<Box<str>> {
        keys.iter().find_map(|key| self.labels.get(key)).filter(|value| !value.is_empty()).map(Into::into)
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawPort {
    #[serde(deserialize_with = "or_default")]
    name: Box<str>,
    #[serde(deserialize_with = "or_default")]
    port: i64,
    protocol: Option<Box<str>>,
    app_protocol: Option<Box<str>>,
}

impl From<RawPort> for Port {
    fn from(raw: RawPort) -> Self {
        let RawPort { name, port, protocol, app_protocol } = raw;
        let is_tcp = protocol.is_none_or(|protocol| protocol.as_ref() == "TCP");
        Self { name, number: port, is_tcp, app_protocol }
    }
}

#[derive(Deserialize)]
pub(super) struct RawService {
    metadata: Metadata,
    #[serde(default)]
    spec: ServiceSpec,
    #[serde(deserialize_with = "or_default", default)]
    status: ServiceStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ServiceSpec {
    #[serde(rename = "type")]
    kind: Box<str>,
    external_name: Option<Box<str>>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<Box<str>>,
    #[serde(rename = "clusterIPs", deserialize_with = "or_default")]
    cluster_ips: Vec<Box<str>>,
    #[serde(deserialize_with = "or_default")]
    ports: Vec<RawPort>,
    traffic_distribution: Option<Box<str>>,
    internal_traffic_policy: Option<Box<str>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ServiceStatus {
    #[serde(deserialize_with = "or_default")]
    load_balancer: Balancer,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Balancer {
    #[serde(deserialize_with = "or_default")]
    ingress: Vec<Ingress>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Ingress {
    ip: Option<Box<str>>,
    ip_mode: Option<Box<str>>,
}

impl Balancer {
    /// The addresses that nodes take for the service's own: not those at which packets must pass the balancer (`Proxy`),
    /// nor host names, which are nobody's address.
    fn virtual_ips(self) -> Vec<Box<str>> {
        let is_virtual = |ingress: &Ingress| ingress.ip_mode.as_deref().is_none_or(|mode| mode == "VIP");
        let ips = self.ingress.into_iter().filter(is_virtual).filter_map(|ingress| ingress.ip);
        ips.filter(|ip| !ip.is_empty()).collect()
    }
}

impl From<RawService> for Decoded {
    fn from(RawService { metadata, spec, status }: RawService) -> Self {
        let mut cluster_ips = spec.cluster_ips;
        if cluster_ips.is_empty() {
            cluster_ips.extend(spec.cluster_ip);
        }
        cluster_ips.retain(|ip| !ip.is_empty() && ip.as_ref() != "None");
        let is_external = spec.kind.as_ref() == "ExternalName";
        let balancer_ips = match spec.kind.as_ref() {
            "LoadBalancer" => status.load_balancer.virtual_ips(),
            _ => Vec::new(),
        };
        let mode = metadata.annotations.get("service.kubernetes.io/topology-mode");
        let traffic = Traffic {
            distribution: spec.traffic_distribution,
            internal_policy: spec.internal_traffic_policy,
            topology_mode_auto: matches!(mode, Some("Auto" | "auto")),
        };
        let object = Object::Service(Service {
            key: metadata.key(),
            external_name: is_external.then(|| spec.external_name.unwrap_or_default()),
            cluster_ips,
            balancer_ips,
            traffic,
            ports: spec.ports.into_iter().map(Into::into).collect(),
            annotations: metadata.annotations.ours(),
        });
        Self { object, version: metadata.resource_version }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawSlice {
    metadata: Metadata,
    #[serde(default)]
    address_type: Box<str>,
    #[serde(deserialize_with = "or_default", default = "Vec::new")]
    ports: Vec<RawPort>,
    #[serde(deserialize_with = "or_default", default = "Vec::new")]
    endpoints: Vec<RawEndpoint>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawEndpoint {
    #[serde(deserialize_with = "or_default")]
    addresses: Vec<Box<str>>,
    #[serde(deserialize_with = "or_default")]
    conditions: Conditions,
    node_name: Option<Box<str>>,
    target_ref: Option<TargetRef>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TargetRef {
    kind: Box<str>,
    namespace: Box<str>,
    uid: Box<str>,
}

impl From<RawSlice> for Decoded {
    fn from(RawSlice { metadata, address_type, ports, endpoints }: RawSlice) -> Self {
        let endpoint = |raw: RawEndpoint| {
            // Unknown is ready, and what is served follows from that (discovery/v1, EndpointConditions).
            let Conditions { ready, serving, terminating } = raw.conditions;
            let ready = ready.unwrap_or(true);
            // One of another namespace would be a claim on somebody else's pod.
            let of_ours = |target: &TargetRef| {
                target.kind.as_ref() == "Pod"
                    && target.namespace == metadata.namespace
                    && !target.uid.is_empty()
            };
            Endpoint {
                addresses: raw.addresses,
                ready,
                serving: serving.unwrap_or(ready),
                terminating: terminating.unwrap_or(false),
                node: raw.node_name,
                pod_uid: raw.target_ref.filter(of_ours).map(|target| target.uid),
            }
        };
        let kept_by = metadata.labels.get("endpointslice.kubernetes.io/managed-by");
        let object = Object::Slice(Slice {
            key: metadata.key(),
            service: metadata.label(&["kubernetes.io/service-name"]),
            is_kept: kept_by == Some("endpointslice-controller.k8s.io"),
            has_names: address_type.as_ref() == "FQDN",
            ports: ports.into_iter().map(Into::into).collect(),
            endpoints: endpoints.into_iter().map(endpoint).collect(),
        });
        Self { object, version: metadata.resource_version }
    }
}

#[derive(Deserialize)]
pub(super) struct RawPod {
    metadata: Metadata,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: Option<Box<str>>,
    service_account_name: Option<Box<str>>,
    host_network: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    phase: Box<str>,
    #[serde(rename = "podIP")]
    pod_ip: Option<Box<str>>,
    #[serde(rename = "podIPs", deserialize_with = "or_default")]
    pod_ips: Vec<PodIp>,
    #[serde(deserialize_with = "or_default")]
    conditions: Vec<Condition>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PodIp {
    ip: Box<str>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: Box<str>,
    status: Box<str>,
}

impl From<RawPod> for Decoded {
    fn from(RawPod { metadata, spec, status }: RawPod) -> Self {
        let mut ips: Vec<Box<str>> = status.pod_ips.into_iter().map(|ip| ip.ip).collect();
        if ips.is_empty() {
            ips.extend(status.pod_ip);
        }
        ips.retain(|ip| !ip.is_empty());
        let ready = status.conditions.iter().find(|condition| condition.kind.as_ref() == "Ready");
        let object = Object::Pod(Pod {
            key: metadata.key(),
            uid: metadata.uid.clone(),
            node: spec.node_name,
            service_account: spec.service_account_name.unwrap_or_else(|| "default".into()),
            ips,
            host_network: spec.host_network,
            finished: matches!(status.phase.as_ref(), "Succeeded" | "Failed"),
            deleting: metadata.deletion_timestamp.is_some(),
            ready: ready.is_some_and(|condition| condition.status.as_ref() == "True"),
            app: metadata.label(&["app.kubernetes.io/name", "app"]),
            version: metadata.label(&["app.kubernetes.io/version", "version"]),
            annotations: metadata.annotations.ours(),
        });
        Self { object, version: metadata.resource_version }
    }
}

#[derive(Deserialize)]
pub(super) struct RawNode {
    metadata: Metadata,
}

impl From<RawNode> for Decoded {
    fn from(RawNode { metadata }: RawNode) -> Self {
        let label = |key| metadata.labels.get(key).unwrap_or_default().to_owned();
        let (region, zone) = (label("topology.kubernetes.io/region"), label("topology.kubernetes.io/zone"));
        let locality = Locality { region, zone, subzone: String::new() };
        Self {
            object: Object::Node(Node { name: metadata.name, locality }),
            version: metadata.resource_version,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct RawNamespace {
    metadata: Metadata,
}

impl From<RawNamespace> for Decoded {
    fn from(RawNamespace { metadata }: RawNamespace) -> Self {
        Self { object: Object::Namespace(metadata.name), version: metadata.resource_version }
    }
}

/// Go writes empty lists and absent pointers as `null`.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
