//! A Pod: whose identity an instance has, whether it has a proxy, and what its user wrote.

use std::net::IpAddr;

use weft_model::{InstanceId, Namespace, SpiffeId, Tunnel};
use weft_registry::Problem;

use super::{About, Context, Written, object_name};
use crate::object::{ObjectKey, Pod};

/// What is held of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodFacts {
    pub(crate) key: ObjectKey,
    pub(crate) node: Option<Box<str>>,
    /// `None` for a pod on its node's own network: it shares its address with others.
    pub(crate) identity: Option<SpiffeId>,
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) host_network: bool,
    pub(crate) finished: bool,
    pub(crate) deleting: bool,
    pub(crate) ready: bool,
    pub(crate) app: Option<Box<str>>,
    pub(crate) version: Option<Box<str>>,
    pub(crate) written: Written,
}

impl PodFacts {
    /// Whether it can be an instance at all.
    pub(crate) fn is_usable(&self) -> bool {
        !self.finished && !self.ips.is_empty() && self.written != Written::Refused
    }

    /// How its proxy is reached.
    pub(crate) fn tunnel(&self) -> Tunnel {
        let written = self.written.metadata().and_then(|metadata| metadata.tunnel());
        // Its address is the node's, and so is whatever listens there.
        written.filter(|_| !self.host_network).unwrap_or_default()
    }
}

/// Converts a pod. `before` is the same pod as it was last.
pub(crate) fn pod(
    context: &Context,
    pod: &Pod,
    before: Option<&PodFacts>,
) -> (Option<(InstanceId, PodFacts)>, Vec<Problem>) {
    let object = object_name("pod", &pod.key);
    let parts = (|| {
        let id: InstanceId =
            format!("pod/{}", pod.uid).parse().map_err(|e: weft_model::InvalidName| e.to_string())?;
        let namespace: Namespace =
            pod.key.namespace().parse().map_err(|e: weft_model::InvalidName| e.to_string())?;
        let identity = SpiffeId::of_service_account(&context.trust_domain, &namespace, &pod.service_account);
        Ok::<_, String>((id, namespace, identity.map_err(|error| error.to_string())?))
    })();
    let (id, namespace, identity) = match parts {
        Ok(parts) => parts,
        Err(reason) => return (None, vec![Problem::error(object, reason)]),
    };
    let about = About { kind: "pod", key: &pod.key, namespace: &namespace, meaningless: &MEANINGLESS };
    let (written, mut problems) =
        Written::read(context, &about, &pod.annotations, before.map(|before| &before.written));
    let mut ips = Vec::with_capacity(pod.ips.len());
    for ip in &pod.ips {
        match ip.parse::<IpAddr>() {
            Ok(ip) => ips.push(ip),
            Err(_) => problems.push(
                Problem::error(object.as_str(), format!("{ip:?} is no IP address")).in_field("status.podIPs"),
            ),
        }
    }
    let facts = PodFacts {
        key: pod.key.clone(),
        node: pod.node.clone(),
        identity: Some(identity).filter(|_| !pod.host_network),
        ips,
        host_network: pod.host_network,
        finished: pod.finished,
        deleting: pod.deleting,
        ready: pod.ready,
        app: pod.app.clone(),
        version: pod.version.clone(),
        written,
    };
    if facts.host_network
        && facts.written.metadata().is_some_and(|m| matches!(m.tunnel(), Some(Tunnel::Port(_))))
    {
        let message = "it has no effect: the pod is on its node's network and has no proxy of its own";
        problems.push(Problem::warning(object, message).in_field("metadata.annotations[weft.dev/tunnel]"));
    }
    (Some((id, facts)), problems)
}

const MEANINGLESS: [(&str, &str); 5] = [
    ("node", "a pod's node is its own"),
    ("identity", "a pod's identity is its service account"),
    ("service", "a pod belongs to the Services that select it"),
    ("namespace", "a pod's namespace is its own"),
    ("port", "a Service names the ports of its pods"),
];
