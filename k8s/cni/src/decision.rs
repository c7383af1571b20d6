//! Whether a pod's traffic is to be captured by this plugin, and how: from the pod as the API server has it.
//!
//! The injector writes it all down at admission, so nothing is guessed here: the status that says that there is a proxy,
//! the settings of the rules, and, where rules are applied from inside, the init container that does it.

use std::collections::BTreeMap;

use serde::Deserialize;
use weft_redirect::{ANNOTATION, INIT_CONTAINER, RedirectSettings};

use crate::answer::{Code, PluginError};

/// The annotation by which the injector says that the pod has a proxy.
const STATUS: &str = "weft.dev/status";
/// The annotation by which a kubelet marks the mirror of a static pod; its value is that pod's uid.
const STATIC: &str = "kubernetes.io/config.hash";

/// What is done for a pod.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Nothing.
    Leave,
    /// These rules.
    Redirect(Box<RedirectSettings>),
}

#[derive(Deserialize)]
struct Pod {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    init_containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Container {
    name: String,
}

/// Decides for the pod in this JSON, which the runtime says has this uid.
pub(crate) fn decide(pod: &[u8], uid: Option<&str>) -> Result<Decision, PluginError> {
    let pod: Pod = serde_json::from_slice(pod)
        .map_err(|error| PluginError::new(Code::Later, format!("the API server's pod: {error}")))?;
    let Metadata { uid: there, annotations } = &pod.metadata;
    if let Some(uid) = uid.filter(|uid| uid != there) {
        if annotations.get(STATIC).is_some_and(|hash| hash == uid) {
            return Ok(Decision::Leave);
        }
        // A pod of the same name is about to follow or went before: its annotations are not this one's.
        let text = format!("the API server has uid {there:?} for the pod whose uid is {uid:?}");
        return Err(PluginError::new(Code::Later, text));
    }
    let applied_inside = pod.spec.init_containers.iter().any(|container| container.name == INIT_CONTAINER);
    let Some(settings) = annotations.get(ANNOTATION) else { return Ok(Decision::Leave) };
    if !annotations.contains_key(STATUS) || applied_inside {
        return Ok(Decision::Leave);
    }
    match RedirectSettings::parse(settings) {
        Ok(settings) => Ok(Decision::Redirect(Box::new(settings))),
        Err(error) => Err(PluginError::new(Code::Pod, format!("annotation {ANNOTATION}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(annotations: Value, init: &[&str]) -> Vec<u8> {
        let init: Vec<_> = init.iter().map(|name| json!({ "name": name, "image": "x" })).collect();
        let spec = json!({ "initContainers": init, "containers": [] });
        json!({ "metadata": { "uid": "u1", "name": "web-0", "annotations": annotations }, "spec": spec })
            .to_string()
            .into_bytes()
    }

    fn injected() -> Value {
        json!({ "weft.dev/status": "{}", "weft.dev/redirect": r#"{"version":1,"exclude_inbound_ports":[22]}"# })
    }

    #[test]
    fn an_injected_pod_gets_the_rules_of_its_annotation() {
        let Ok(Decision::Redirect(settings)) = decide(&pod(injected(), &["weft-proxy"]), Some("u1")) else {
            panic!("it is left alone");
        };
        assert_eq!(settings.exclude_inbound_ports, [22]);
    }

    #[test]
    fn a_pod_that_is_not_injected_or_captures_nothing_or_by_itself_is_left_alone() {
        let status = json!({ "weft.dev/status": "{}" });
        let by_hand = json!({ "weft.dev/redirect": r#"{"version":1}"# });
        for pod in [
            pod(json!({}), &[]),
            pod(status, &[]),
            pod(by_hand, &[]),
            pod(injected(), &["weft-redirect", "weft-proxy"]),
            br#"{"metadata":{"uid":"u1"}}"#.to_vec(),
        ] {
            assert_eq!(
                decide(&pod, Some("u1")).unwrap(),
                Decision::Leave,
                "{}",
                String::from_utf8_lossy(&pod)
            );
        }
    }

    #[test]
    fn settings_that_are_not_understood_keep_the_pod_from_starting() {
        let later = json!({ "weft.dev/status": "{}", "weft.dev/redirect": r#"{"version":2}"# });
        let error = decide(&pod(later, &[]), None).unwrap_err();
        assert_eq!(error.code, Code::Pod);
        assert!(error.text.starts_with("annotation weft.dev/redirect: "), "{}", error.text);
        assert!(error.text.contains("version 2 is not understood"), "{}", error.text);
    }

    #[test]
    fn another_pod_of_the_same_name_does_not_decide_for_this_one() {
        let error = decide(&pod(json!({}), &[]), Some("u2")).unwrap_err();
        assert_eq!(error.code, Code::Later);
        let mirror = pod(json!({ "kubernetes.io/config.hash": "u2" }), &[]);
        assert_eq!(decide(&mirror, Some("u2")).unwrap(), Decision::Leave);
    }

    #[test]
    fn an_answer_that_is_no_pod_is_no_pod_outside_the_mesh() {
        assert_eq!(decide(b"{}", None).unwrap_err().code, Code::Later);
        assert_eq!(decide(b"<html>", None).unwrap_err().code, Code::Later);
    }
}
