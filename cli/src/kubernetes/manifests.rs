//! The chart's objects as they were rendered, and with other values put into their places.
//!
//! Each value stands in the rendered text in one form that nothing else has, so it is replaced as text; that this makes
//! what Helm makes of the same values is a test.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde_json::Value;
use sha2::{Digest, Sha256};
use weft_model::{RegistryId, TrustDomain};

/// With the chart's own values, and the namespace's object.
const RENDERED: &str = include_str!("../../../k8s/manifests/weft.yaml");
/// The same with the CNI plugin.
const WITH_CNI: &str = include_str!("../../../k8s/manifests/weft-cni.yaml");
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Where the rendered text has the hash of the control plane's settings.
const CHECKSUM: &str = "checksum/control.toml: ";

/// What can be another than the chart's own.
#[derive(Debug, Clone)]
pub(super) struct Values {
    pub(super) namespace: String,
    pub(super) image_registry: String,
    pub(super) image_tag: String,
    pub(super) trust_domain: TrustDomain,
    pub(super) cluster: String,
    pub(super) cni: bool,
}

impl Values {
    /// The chart's own, in another namespace.
    pub(super) fn in_namespace(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            image_registry: "weft.dev".to_owned(),
            image_tag: VERSION.to_owned(),
            trust_domain: "weft.local".parse().expect("it is a trust domain"),
            cluster: "default".to_owned(),
            cni: false,
        }
    }

    /// The registry by which the control plane knows the cluster.
    pub(super) fn registry(&self) -> Result<RegistryId> {
        Ok(format!("kubernetes/{}", self.cluster).parse()?)
    }

    /// The objects, YAML.
    pub(super) fn rendered(&self) -> Result<String> {
        let registry = self.registry()?.to_string();
        let rendered = if self.cni { WITH_CNI } else { RENDERED };
        let mut text = rendered.replace("weft-system", &self.namespace);
        for image in ["proxy", "control", "cni"] {
            let own = format!("weft.dev/{image}:{VERSION}");
            text = text.replace(&own, &format!("{}/{image}:{}", self.image_registry, self.image_tag));
        }
        text = text
            .replace("trust_domain = \"weft.local\"", &format!("trust_domain = \"{}\"", self.trust_domain));
        text = text.replace("\"kubernetes/default\"", &format!("\"{registry}\""));
        with_checksum(&text)
    }
}

/// One object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    /// `deployment`.
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) namespace: Option<String>,
}

/// The objects of a rendered text, in order.
pub(super) fn objects(text: &str) -> Result<Vec<Object>> {
    let field =
        |object: &Value, pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let values = documents(text)?;
    let objects = values.iter().filter_map(|object| {
        Some(Object {
            kind: field(object, "/kind")?.to_lowercase(),
            name: field(object, "/metadata/name")?,
            namespace: field(object, "/metadata/namespace"),
        })
    });
    Ok(objects.collect())
}

fn documents(text: &str) -> Result<Vec<Value>> {
    serde_saphyr::from_multiple(text).context("reading the manifests")
}

/// Writes the hash of the settings as they are now, by which Kubernetes replaces the pods when they change.
fn with_checksum(text: &str) -> Result<String> {
    let documents = documents(text)?;
    let settings = documents.iter().find_map(|object| object.pointer("/data/control.toml")?.as_str());
    let hash = Sha256::digest(settings.context("the manifests have no control.toml")?);
    let mut hex = String::new();
    for byte in hash {
        write!(hex, "{byte:02x}")?;
    }
    let (before, rest) = text.split_once(CHECKSUM).context("the manifests have no checksum")?;
    let after = rest.split_once('\n').map_or("", |(_, after)| after);
    Ok(format!("{before}{CHECKSUM}{hex}\n{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chart_s_own_values_change_nothing() {
        let own = Values::in_namespace("weft-system");
        assert_eq!(own.rendered().unwrap(), RENDERED);
        assert_eq!(Values { cni: true, ..own }.rendered().unwrap(), WITH_CNI);
    }

    #[test]
    fn each_value_is_in_its_place_and_nothing_of_the_other_is_left() {
        let values = Values {
            namespace: "mesh".to_owned(),
            image_registry: "registry.example:5000/a".to_owned(),
            image_tag: "v9".to_owned(),
            trust_domain: "prod.example".parse().unwrap(),
            cluster: "west".to_owned(),
            cni: true,
        };
        let text = values.rendered().unwrap();
        for gone in [
            "weft-system",
            "weft.dev/proxy",
            "weft.dev/control",
            "weft.dev/cni",
            "weft.local",
            "kubernetes/default",
        ] {
            assert!(!text.contains(gone), "{gone}");
        }
        for there in [
            "weft-control.mesh.svc:15010",
            "registry.example:5000/a/control:v9",
            "\"prod.example\"",
            "\"kubernetes/west\"",
        ] {
            assert!(text.contains(there), "{there}");
        }
        // Annotations and labels are no images.
        assert!(text.contains("weft.dev/inject"), "{text}");
        assert!(
            objects(&text)
                .unwrap()
                .iter()
                .all(|object| object.namespace.as_deref().is_none_or(|n| n == "mesh"))
        );
    }

    #[test]
    fn other_settings_have_another_checksum() {
        let line = |values: &Values| {
            let text = values.rendered().unwrap();
            text.lines().find(|line| line.contains(CHECKSUM)).unwrap().to_owned()
        };
        assert_ne!(line(&Values::in_namespace("weft-system")), line(&Values::in_namespace("mesh")));
    }
}
