//! What a user sets for one Kubernetes cluster.
//!
//! One registry is one cluster: several are several registries. Unknown keys are refused. The kubeconfig is named here and
//! read by `connect.rs`; nothing here does IO.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weft_model::Network;

use crate::inline::InlineKubeconfig;

/// The settings of one Kubernetes registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KubernetesSettings {
    /// The kubeconfig file. Absent: the service account of the pod that this process runs in.
    pub kubeconfig: Option<PathBuf>,
    /// A kubeconfig that is no file, in its place. Not among what a file of settings may have.
    #[serde(skip)]
    pub inline: Option<InlineKubeconfig>,
    /// The context in it; absent: its current one.
    pub context: Option<String>,
    /// Which namespaces are in the mesh.
    pub namespaces: NamespaceSettings,
    /// The network in which the addresses of pods and services are valid. Clusters whose pods do not reach each other by
    /// address have different ones.
    pub network: Network,
    /// How many objects a page of a list has, with servers that do not stream lists.
    pub page_size: u32,
    /// How long a watch lasts until it is begun anew where it ended.
    #[serde(with = "weft_registry::duration")]
    pub watch: Duration,
    /// How long an answer, or the next piece of one, may take until the server counts as down.
    #[serde(with = "weft_registry::duration")]
    pub answer_timeout: Duration,
}

/// `[registry.kubernetes.namespaces]`: the discovery selectors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NamespaceSettings {
    /// Only these; all where it is empty. Each is watched by itself, so that rights in these namespaces are enough.
    pub include: BTreeSet<String>,
    /// Not these.
    pub exclude: BTreeSet<String>,
    /// Only those whose labels match, in Kubernetes' syntax: `weft.dev/inject=enabled,stage!=test`.
    pub selector: Option<String>,
}

impl Default for NamespaceSettings {
    fn default() -> Self {
        // Of the same name in each cluster and not the same service: one cluster's name server must not answer for another.
        let exclude = ["kube-node-lease", "kube-public", "kube-system"].map(str::to_owned).into();
        Self { include: BTreeSet::new(), exclude, selector: None }
    }
}

impl Default for KubernetesSettings {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            inline: None,
            context: None,
            namespaces: NamespaceSettings::default(),
            network: Network::default_network(),
            page_size: 500,
            watch: Duration::from_mins(2),
            answer_timeout: Duration::from_secs(15),
        }
    }
}

/// Which setting is wrong, and what was expected.
#[derive(Debug, thiserror::Error)]
#[error("kubernetes setting {key}: {reason}")]
pub struct InvalidSettings {
    /// The setting.
    pub key: &'static str,
    /// What is wrong and what was expected.
    pub reason: String,
}

impl KubernetesSettings {
    /// Checks what needs no file.
    ///
    /// # Errors
    /// When a value is not allowed.
    pub fn check(&self) -> Result<(), InvalidSettings> {
        let fail = |key, reason: &str| Err(InvalidSettings { key, reason: reason.to_owned() });
        if self.context.is_some() && self.kubeconfig.is_none() && self.inline.is_none() {
            return fail("context", "it is a context of a kubeconfig, and there is none");
        }
        if !(10..=5000).contains(&self.page_size) {
            return fail("page_size", "10 to 5,000 are allowed");
        }
        if !(Duration::from_secs(1)..=Duration::from_mins(10)).contains(&self.watch) {
            return fail("watch", "1 second to 10 minutes are allowed");
        }
        if self.answer_timeout.is_zero() {
            return fail("answer_timeout", "it must be longer than nothing");
        }
        let NamespaceSettings { include, exclude, selector } = &self.namespaces;
        if include.len() > MOST_INCLUDED {
            return fail("namespaces.include", "at most 50: use a selector");
        }
        for (key, names) in [("namespaces.include", include), ("namespaces.exclude", exclude)] {
            if let Some(bad) = names.iter().find(|name| !is_namespace(name)) {
                let reason = format!("{bad:?}: lower-case letters, digits and '-' are allowed, 1 to 63");
                return Err(InvalidSettings { key, reason });
            }
        }
        if let Some(both) = include.intersection(exclude).next() {
            let reason = format!("{both} is excluded as well");
            return Err(InvalidSettings { key: "namespaces.include", reason });
        }
        if selector.as_ref().is_some_and(|selector| selector.trim().is_empty()) {
            return fail("namespaces.selector", "it is empty; leave it out");
        }
        Ok(())
    }
}

/// RFC 1123 labels, which is what Kubernetes allows.
fn is_namespace(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Each is three watches.
const MOST_INCLUDED: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_survive_a_round_trip() {
        let settings = KubernetesSettings::default();
        settings.check().unwrap();
        let json = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<KubernetesSettings>(&json).unwrap(), settings);
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        for json in [r#"{"kubecfg": "x"}"#, r#"{"namespaces": {"only": []}}"#] {
            let error = serde_json::from_str::<KubernetesSettings>(json).unwrap_err();
            assert!(error.to_string().contains("unknown field"), "{error}");
        }
    }

    #[test]
    fn each_bad_value_is_named() {
        let refused = |json: &str| {
            let settings: KubernetesSettings = serde_json::from_str(json).unwrap();
            settings.check().expect_err(json).key
        };
        assert_eq!(refused(r#"{"context": "prod"}"#), "context");
        assert_eq!(refused(r#"{"page_size": 0}"#), "page_size");
        assert_eq!(refused(r#"{"watch": "11m"}"#), "watch");
        assert_eq!(refused(r#"{"answer_timeout": "0s"}"#), "answer_timeout");
        assert_eq!(refused(r#"{"namespaces": {"include": ["Shop"]}}"#), "namespaces.include");
        assert_eq!(refused(r#"{"namespaces": {"exclude": ["a/b"]}}"#), "namespaces.exclude");
        assert_eq!(refused(r#"{"namespaces": {"include": ["a"], "exclude": ["a"]}}"#), "namespaces.include");
        assert_eq!(refused(r#"{"namespaces": {"selector": " "}}"#), "namespaces.selector");
    }
}
