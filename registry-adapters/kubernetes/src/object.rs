//! The API's objects, as far as they are used: what is read out of an answer is all that is ever held.
//!
//! A pod has several kilobytes in the API and a few hundred bytes here. Maps of labels and annotations are picked from
//! while they are read (`object/picked.rs`), so what is not used is not even copied. What the fields mean for the mesh is
//! `convert.rs`'s business; the only decision here is which of them are read.

mod decode;
mod picked;
mod raw;

use std::fmt;
use std::sync::Arc;

use weft_model::Locality;

pub(crate) use decode::{Page, WatchLine, decode_line, decode_page, decode_status};
pub(crate) use picked::Picked;

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Services,
    Slices,
    Pods,
    Nodes,
    Namespaces,
}

impl Kind {
    /// The name in the API's paths, and for people.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Slices => "endpointslices",
            Self::Pods => "pods",
            Self::Nodes => "nodes",
            Self::Namespaces => "namespaces",
        }
    }

    fn group(self) -> &'static str {
        match self {
            Self::Slices => "/apis/discovery.k8s.io/v1",
            _ => "/api/v1",
        }
    }

    /// Whether its objects are in namespaces.
    pub(crate) fn is_namespaced(self) -> bool {
        !matches!(self, Self::Nodes | Self::Namespaces)
    }

    /// Whether the mesh can do without it: then a refusal costs what follows from it, and not the whole registry.
    pub(crate) fn is_optional(self) -> bool {
        matches!(self, Self::Pods | Self::Nodes)
    }
}

/// One list that is read and followed: a kind, in one namespace or in all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Source {
    pub(crate) kind: Kind,
    pub(crate) namespace: Option<Arc<str>>,
}

impl Source {
    /// The path in the API.
    pub(crate) fn path(&self) -> String {
        let (group, kind) = (self.kind.group(), self.kind.as_str());
        match &self.namespace {
            Some(namespace) => format!("{group}/namespaces/{namespace}/{kind}"),
            None => format!("{group}/{kind}"),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} in namespace {namespace}", self.kind.as_str()),
            None => f.write_str(self.kind.as_str()),
        }
    }
}

/// `namespace/name` of an object; an empty namespace for one that is in none. Cheap to clone: indexes share it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ObjectKey(Arc<str>);

impl ObjectKey {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self(format!("{namespace}/{name}").into())
    }

    pub(crate) fn namespace(&self) -> &str {
        self.0.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    pub(crate) fn name(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, name)| name)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// One object of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Object {
    Service(Service),
    Slice(Slice),
    Pod(Pod),
    Node(Node),
    Namespace(Box<str>),
}

impl Object {
    /// Whether both are states of one object.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Service(one), Self::Service(other)) => one.key == other.key,
            (Self::Slice(one), Self::Slice(other)) => one.key == other.key,
            (Self::Pod(one), Self::Pod(other)) => one.uid == other.uid,
            (Self::Node(one), Self::Node(other)) => one.name == other.name,
            (Self::Namespace(one), Self::Namespace(other)) => one == other,
            _ => false,
        }
    }
}

/// A port of a service or of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port {
    /// Empty where it has none.
    pub(crate) name: Box<str>,
    /// 0 where it has none: all ports.
    pub(crate) number: i64,
    pub(crate) is_tcp: bool,
    pub(crate) app_protocol: Option<Box<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) key: ObjectKey,
    /// The name that it stands for, of the type `ExternalName`.
    pub(crate) external_name: Option<Box<str>>,
    /// Without `None`, which is what a headless service has.
    pub(crate) cluster_ips: Vec<Box<str>>,
    /// Those of its load balancer at which it stands for the service itself.
    pub(crate) balancer_ips: Vec<Box<str>>,
    pub(crate) ports: Vec<Port>,
    pub(crate) traffic: Traffic,
    /// Ours only.
    pub(crate) annotations: Picked,
}

/// Which endpoints callers are to use, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Traffic {
    pub(crate) distribution: Option<Box<str>>,
    pub(crate) internal_policy: Option<Box<str>>,
    pub(crate) topology_mode_auto: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) key: ObjectKey,
    /// The service that it is labelled with.
    pub(crate) service: Option<Box<str>>,
    /// Whether Kubernetes' own controller keeps it, and not a user or another controller.
    pub(crate) is_kept: bool,
    /// Whether its addresses are host names.
    pub(crate) has_names: bool,
    pub(crate) ports: Vec<Port>,
    pub(crate) endpoints: Vec<Endpoint>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) addresses: Vec<Box<str>>,
    pub(crate) ready: bool,
    pub(crate) serving: bool,
    pub(crate) terminating: bool,
    pub(crate) node: Option<Box<str>>,
    /// The uid of the pod that it is, where it names one of its own namespace.
    pub(crate) pod_uid: Option<Box<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) key: ObjectKey,
    pub(crate) uid: Box<str>,
    pub(crate) node: Option<Box<str>>,
    pub(crate) service_account: Box<str>,
    pub(crate) ips: Vec<Box<str>>,
    pub(crate) host_network: bool,
    /// Succeeded or failed: its addresses may be somebody else's already.
    pub(crate) finished: bool,
    /// It is asked to end.
    pub(crate) deleting: bool,
    pub(crate) ready: bool,
    pub(crate) app: Option<Box<str>>,
    pub(crate) version: Option<Box<str>>,
    /// Ours only.
    pub(crate) annotations: Picked,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) name: Box<str>,
    pub(crate) locality: Locality,
}
