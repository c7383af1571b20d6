//! What the runtime asks: variables of the environment, and the configuration on standard input.
//!
//! The result of the plugins before ours is kept as the text that it is: what we do not understand of it goes on unchanged.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::answer::{Code, PluginError, VERSIONS};

/// The variables (CNI specification 1.1.0, "Parameters").
#[derive(Debug, Default)]
pub(crate) struct Environment {
    pub(crate) command: String,
    netns: Option<PathBuf>,
    arguments: String,
}

impl Environment {
    /// From a reader of variables.
    pub(crate) fn new(variable: impl Fn(&str) -> Option<String>) -> Self {
        Self {
            command: variable("CNI_COMMAND").unwrap_or_default(),
            netns: variable("CNI_NETNS").filter(|path| !path.is_empty()).map(PathBuf::from),
            arguments: variable("CNI_ARGS").unwrap_or_default(),
        }
    }

    /// The pod's network namespace, if it still has one.
    pub(crate) fn netns(&self) -> Option<&Path> {
        self.netns.as_deref()
    }

    /// The pod, as a kubelet names it; `None` where it is none of Kubernetes.
    pub(crate) fn pod(&self) -> Result<Option<PodName>, PluginError> {
        let argument = |name: &str| {
            let pairs = self.arguments.split(';').filter_map(|pair| pair.split_once('='));
            pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
        };
        let (namespace, name) = (argument("K8S_POD_NAMESPACE"), argument("K8S_POD_NAME"));
        let (Some(namespace), Some(name)) = (namespace, name) else { return Ok(None) };
        for part in [&namespace, &name] {
            let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
            // They become a part of a URL. RFC 1123 has these characters, and Kubernetes no others.
            if part.is_empty() || part.starts_with('.') || !part.chars().all(allowed) {
                let text = format!("CNI_ARGS: {part:?} is not a name of Kubernetes");
                return Err(PluginError::new(Code::Environment, text));
            }
        }
        Ok(Some(PodName { namespace, name, uid: argument("K8S_POD_UID") }))
    }
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodName {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: Option<String>,
}

/// The configuration: ours of the list, and what the runtime adds to it. Other keys are the runtime's.
#[derive(Debug, Deserialize)]
pub(crate) struct Configuration {
    #[serde(rename = "cniVersion", default)]
    pub(crate) version: String,
    /// The file with the way to the API server.
    #[serde(default)]
    pub(crate) kubeconfig: PathBuf,
    /// Pods of these namespaces are left alone.
    #[serde(rename = "excludeNamespaces", default)]
    pub(crate) exclude_namespaces: Vec<String>,
    /// What the plugins before ours gave.
    #[serde(rename = "prevResult", default)]
    pub(crate) previous: Option<Box<RawValue>>,
}

impl Configuration {
    /// From what was read.
    pub(crate) fn parse(input: &str) -> Result<Self, PluginError> {
        serde_json::from_str(input)
            .map_err(|error| PluginError::new(Code::Decode, format!("the network configuration: {error}")))
    }

    /// Refuses a version that is not spoken.
    pub(crate) fn supported(&self) -> Result<(), PluginError> {
        if VERSIONS.contains(&self.version.as_str()) {
            return Ok(());
        }
        let text = format!("cniVersion {:?} is not spoken; {} are", self.version, VERSIONS.join(", "));
        Err(PluginError::new(Code::Version, text))
    }
}
