//! Names: the newtypes that keep two strings from being swapped. The only way in is to parse.
//!
//! One grammar for all of them, the widest that every platform's own names fit in and that is safe in a
//! SPIFFE path, a metric label and a resource name: 1 to 253 of `[A-Za-z0-9._-]`, not `.` or `..`.
//! What is composed of names (`ServiceKey`, `RegistryId`, `InstanceId`) joins them with `/`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind}: {reason}")]
pub struct InvalidName {
    /// What was wanted, in words: "namespace", "service name".
    pub kind: &'static str,
    /// What was given.
    pub text: String,
    /// What is wrong with it, and what is allowed.
    pub reason: String,
}

fn check(kind: &'static str, text: &str) -> Result<(), InvalidName> {
    let fail = |reason: String| Err(InvalidName { kind, text: text.to_owned(), reason });
    if text.is_empty() {
        return fail("it is empty".to_owned());
    }
    if text.len() > 253 {
        return fail(format!("it has {} bytes; at most 253 are allowed", text.len()));
    }
    if text == "." || text == ".." {
        return fail("a path step of only dots is not allowed".to_owned());
    }
    match text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
        Some(c) => fail(format!("{c:?} is not allowed; letters, digits, '.', '_' and '-' are")),
        None => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                check($kind, text)?;
                Ok(Self(text.into()))
            }
        }

        string_forms!($type, InvalidName);
    };
}

/// `Display`, `Debug`, `TryFrom<String>` and `Into<String>` for a newtype with `as_str` and `FromStr`.
macro_rules! string_forms {
    ($type:ident, $error:ident) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }
        impl TryFrom<String> for $type {
            type Error = $error;
            fn try_from(text: String) -> Result<Self, $error> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.as_str().to_owned()
            }
        }
    };
}

name!(
    /// A mesh namespace: a Kubernetes, Nomad or Consul namespace; `default` where the platform has none.
    Namespace, "namespace"
);
name!(
    /// The name of a service within its namespace.
    ServiceName, "service name"
);
name!(
    /// The name of a port of a service: `http`, `grpc-admin`.
    PortName, "port name"
);
name!(
    /// A network: workloads of one network reach each other by address without a gateway.
    Network, "network name"
);

impl Namespace {
    /// `default`: the namespace of platforms that have none.
    pub fn default_namespace() -> Self {
        Self("default".into())
    }
}

impl Network {
    /// `default`: the network of workloads that name none.
    pub fn default_network() -> Self {
        Self("default".into())
    }
}

/// A mesh service: `namespace/name`. Equal keys from several registries are one service unless a
/// [`Mapping`](crate::Mapping) keeps them apart.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceKey {
    /// The service's namespace.
    pub namespace: Namespace,
    /// The service's name.
    pub name: ServiceName,
}

impl ServiceKey {
    /// The key of `name` in `namespace`.
    pub fn new(namespace: Namespace, name: ServiceName) -> Self {
        Self { namespace, name }
    }

    /// What an instance of no service is called where a service's name has to stand.
    pub fn unnamed() -> Self {
        Self { namespace: Namespace::default_namespace(), name: ServiceName("unnamed".into()) }
    }
}

impl FromStr for ServiceKey {
    type Err = InvalidName;
    /// Reads `namespace/name`, or `name` alone, which is in namespace `default`.
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (namespace.parse()?, name),
            None => (Namespace::default_namespace(), text),
        };
        Ok(Self { namespace, name: name.parse()? })
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
impl fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}
impl TryFrom<String> for ServiceKey {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}
impl From<ServiceKey> for String {
    fn from(key: ServiceKey) -> String {
        key.to_string()
    }
}

/// The kind of platform a registry is. The order is precedence where two registries show the same
/// instance: the first one's description of it wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegistryKind {
    /// A Kubernetes cluster.
    Kubernetes,
    /// A Nomad region.
    Nomad,
    /// VM agents.
    Vm,
    /// A Consul datacenter.
    Consul,
    /// A directory of files.
    File,
}

impl RegistryKind {
    /// The kind as it is written in a [`RegistryId`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Nomad => "nomad",
            Self::Vm => "vm",
            Self::Consul => "consul",
            Self::File => "file",
        }
    }
}

/// A registry: `kind/name`, as `consul/dc1` or `file/local`. Part of every entry's key, so that no registry
/// can delete or resurrect another's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RegistryId {
    kind: RegistryKind,
    text: Arc<str>,
}

impl RegistryId {
    /// The platform.
    pub fn kind(&self) -> RegistryKind {
        self.kind
    }
    /// The part behind the slash: `dc1` of `consul/dc1`.
    pub fn name(&self) -> &str {
        self.text.split_once('/').map_or("", |(_, name)| name)
    }
    /// `kind/name`.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for RegistryId {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let fail =
            |reason: &str| InvalidName { kind: "registry", text: text.to_owned(), reason: reason.to_owned() };
        let (kind, name) = text.split_once('/').ok_or_else(|| fail("it is not of the form kind/name"))?;
        check("registry name", name)?;
        let kind = match kind {
            "kubernetes" => RegistryKind::Kubernetes,
            "nomad" => RegistryKind::Nomad,
            "vm" => RegistryKind::Vm,
            "consul" => RegistryKind::Consul,
            "file" => RegistryKind::File,
            _ => return Err(fail("its kind is none of kubernetes, nomad, vm, consul, file")),
        };
        Ok(Self { kind, text: text.into() })
    }
}

string_forms!(RegistryId, InvalidName);

/// The machine that an instance runs on: `kubernetes/REGISTRY/NODE`, or what users wrote. Only whole texts are compared,
/// so that a `worker-1` of one cluster is not that of another.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(Arc<str>);

impl NodeName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A node as one registry names it.
    ///
    /// # Errors
    /// When `node` is no name.
    pub fn within(registry: &RegistryId, node: &str) -> Result<Self, InvalidName> {
        format!("{registry}/{node}").parse()
    }
}

impl FromStr for NodeName {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let fail = |reason: String| InvalidName { kind: "node", text: text.to_owned(), reason };
        if text.len() > 600 {
            return Err(fail(format!("it has {} bytes; at most 600 are allowed", text.len())));
        }
        for step in text.split('/') {
            check("node", step).map_err(|invalid| fail(invalid.reason))?;
        }
        Ok(Self(text.into()))
    }
}

string_forms!(NodeName, InvalidName);

/// One running instance, the same in every registry that shows it: `pod/UID`, `nomad/ALLOC/PORT`, `vm/ID`,
/// `consul/DC/NODE/SERVICE-ID`, `kubernetes/REGISTRY/NAMESPACE/SERVICE/ADDRESS` (an endpoint that is no pod) or
/// `file/REGISTRY/NAME`. An adapter names it by the first of these that it can tell.
///
/// The text behind the first slash is free, but holds no control characters and no `*`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId(Arc<str>);

impl InstanceId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InstanceId {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let fail = |reason: &str| {
            Err(InvalidName { kind: "instance id", text: text.to_owned(), reason: reason.to_owned() })
        };
        let Some((kind, rest)) = text.split_once('/') else { return fail("it is not of the form kind/id") };
        if !matches!(kind, "pod" | "kubernetes" | "nomad" | "vm" | "consul" | "file") {
            return fail("its kind is none of pod, kubernetes, nomad, vm, consul, file");
        }
        if rest.is_empty() || text.len() > 1024 {
            return fail("behind the kind there must be 1 to 1,000 bytes");
        }
        if rest.chars().any(|c| c.is_control() || c == '*') {
            return fail("control characters and '*' are not allowed");
        }
        Ok(Self(text.into()))
    }
}

string_forms!(InstanceId, InvalidName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_without_namespace_is_in_default() {
        let key: ServiceKey = "api".parse().unwrap();
        assert_eq!(key.to_string(), "default/api");
        assert_eq!("default/api".parse::<ServiceKey>().unwrap(), key);
    }

    #[test]
    fn names_refuse_what_would_be_unsafe_in_a_spiffe_path() {
        for bad in ["", ".", "..", "a/b", "a b", "a%2f", "é", "a\n", &"x".repeat(254)] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_registry_id_keeps_kind_and_name() {
        let id: RegistryId = "consul/dc1".parse().unwrap();
        assert_eq!((id.kind(), id.name()), (RegistryKind::Consul, "dc1"));
        assert!("etcd/x".parse::<RegistryId>().is_err());
        assert!("consul".parse::<RegistryId>().is_err());
    }

    #[test]
    fn nodes_of_two_registries_are_never_the_same() {
        let of = |registry: &str| NodeName::within(&registry.parse().unwrap(), "worker-1").unwrap();
        assert_eq!(of("kubernetes/prod").as_str(), "kubernetes/prod/worker-1");
        assert_ne!(of("kubernetes/prod"), of("kubernetes/lab"));
        for wrong in ["", "/a", "a/", "a//b", "a b", "../a", &"x/".repeat(400)] {
            assert!(wrong.parse::<NodeName>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_instance_id_cannot_look_like_a_subscription_to_a_whole_service() {
        assert!("consul/dc1/n/*".parse::<InstanceId>().is_err());
        assert!("consul/dc1/node-1/web 1".parse::<InstanceId>().is_ok());
    }
}
