//! Whether a pod gets a proxy, and where not, why.
//!
//! The pod's own word (label or annotation) wins over its namespace's label. A pod that is left alone is not looked at
//! any further: its other annotations are nobody's problem.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::refused::Refused;
use crate::{INJECT, PROXY, STATUS, container, pod};

/// What is known of a pod's namespace.
#[derive(Debug, Clone, Copy)]
pub struct NamespaceView<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
}

/// Why a pod is left as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Skip {
    /// Neither it nor its namespace asks for a proxy.
    #[error("neither the pod nor its namespace has {INJECT}")]
    NotAsked,
    /// It says no.
    #[error("the pod says {INJECT}: \"false\"")]
    OptedOut,
    /// The namespace's label has a value that means nothing; the text is that value.
    #[error("the namespace's label {INJECT} is {0:?}: expected enabled or disabled")]
    NamespaceLabel(String),
    /// It is in the host's network, where a proxy would capture the host's own traffic.
    #[error("the pod uses the host's network: its traffic can't be told from the host's")]
    HostNetwork,
    /// It runs on Windows.
    #[error("the pod runs on Windows; there is no proxy for it")]
    Windows,
    /// It mirrors a static pod, which the kubelet runs from a file whatever the API server holds.
    #[error("the pod is a static pod: the kubelet has started it already")]
    Static,
    /// It has everything already.
    #[error("the pod has its proxy already")]
    AlreadyInjected,
}

impl Skip {
    /// Whether somebody expected a proxy and has none: such a reason is told, the others are what was asked for.
    pub fn is_surprise(&self) -> bool {
        matches!(self, Self::NamespaceLabel(_) | Self::HostNetwork | Self::Windows | Self::Static)
    }
}

/// `None`: it gets a proxy.
pub(crate) fn skip(pod: &Value, namespace: &NamespaceView<'_>) -> Result<Option<Skip>, Refused> {
    let own = own_word(pod)?;
    Ok(match (own, namespace.labels.get(INJECT).map(String::as_str)) {
        (Some(false), _) => Some(Skip::OptedOut),
        (Some(true), _) | (None, Some("enabled")) => unable(pod),
        (None, None | Some("disabled")) => Some(Skip::NotAsked),
        (None, Some(other)) => Some(Skip::NamespaceLabel(other.to_owned())),
    })
}

/// What the pod itself says.
fn own_word(pod: &Value) -> Result<Option<bool>, Refused> {
    let read = |field: &str, what: &str| match pod::raw(pod, field).find(|(key, _)| *key == INJECT) {
        None => Ok(None),
        Some((_, value)) => match value.as_str() {
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            _ => Err(Refused::because(format!("{what} {INJECT} is {value}: expected \"true\" or \"false\""))),
        },
    };
    match (read("labels", "the label")?, read("annotations", "the annotation")?) {
        (Some(label), Some(annotation)) if label != annotation => Err(Refused::because(format!(
            "the label {INJECT} is \"{label}\" and the annotation {INJECT} is \"{annotation}\": leave one of them out"
        ))),
        (label, annotation) => Ok(label.or(annotation)),
    }
}

fn unable(pod: &Value) -> Option<Skip> {
    let spec = pod.get("spec")?;
    let is = |pointer: &str, value: &Value| spec.pointer(pointer) == Some(value);
    let windows = Value::from("windows");
    if is("/hostNetwork", &Value::Bool(true)) {
        Some(Skip::HostNetwork)
    } else if is("/os/name", &windows) || is("/nodeSelector/kubernetes.io~1os", &windows) {
        Some(Skip::Windows)
    } else if pod::text(pod, "annotations", MIRROR).is_some() {
        Some(Skip::Static)
    } else {
        is_injected(pod).then_some(Skip::AlreadyInjected)
    }
}

/// By what is there, and not by the annotation alone: annotations are copied by people.
fn is_injected(pod: &Value) -> bool {
    let containers = pod::list(pod, "initContainers").iter().chain(pod::list(pod, "containers"));
    let has_token =
        pod::list(pod, "volumes").iter().any(|volume| pod::name(volume) == container::TOKEN_VOLUME);
    let has_proxy = containers.into_iter().any(|container| pod::name(container) == PROXY);
    pod::text(pod, "annotations", STATUS).is_some() && has_proxy && has_token
}

/// What the kubelet writes on the mirror of a static pod.
const MIRROR: &str = "kubernetes.io/config.mirror";
