//! What the proxy of a running pod has otherwise than it would have if the pod were created now: another image, another
//! setting, other rules of capture. Pods keep the proxy with which they were created.
//!
//! It compares what injection itself decides. What the API server or other webhooks add is not looked at, nor are the
//! probes, which another webhook may have moved.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::decide::NamespaceView;
use crate::inject::{Outcome, inject};
use crate::status::Status;
use crate::{InjectorSettings, PROXY, Refused, environment, pod};

/// What is different, a sentence each; empty where the pod is as it would be. `template` is what the pod was made from.
///
/// # Errors
/// When a pod of this template would be refused now.
pub fn drift(
    template: &Value,
    running: &Value,
    namespace: &NamespaceView<'_>,
    settings: &InjectorSettings,
) -> Result<Vec<String>, Refused> {
    let Outcome::Injected(now) = inject(template, namespace, settings)? else { return Ok(Vec::new()) };
    let (Some(had), Some(has)) = (proxy(running), proxy(&now.pod)) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    let image = |container: &Value| container["image"].as_str().unwrap_or_default().to_owned();
    if image(had) != image(has) {
        found.push(format!("its image is {}, and would be {}", image(had), image(has)));
    }
    let version = |pod: &Value| Status::read(pod).map(|status| status.version).unwrap_or_default();
    if version(running) != version(&now.pod) {
        let (old, new) = (version(running), version(&now.pod));
        found.push(format!("it was added by version {old}, and now {new} would"));
    }
    // Without a root here it was the control plane that knew it.
    let unknown = settings.root_sha256.is_empty();
    let counts = |name: &str| name != environment::PROBES && !(unknown && name == environment::ROOTS);
    let (old, new) = (variables(had), variables(has));
    let mut names: Vec<&&str> = old.keys().chain(new.keys()).filter(|name| counts(name)).collect();
    names.sort();
    names.dedup();
    for name in names.into_iter().filter(|name| old.get(**name) != new.get(**name)) {
        let said = |value: Option<&&str>| value.map_or("not set".to_owned(), |value| (*value).to_owned());
        found.push(format!("{name} is {}, and would be {}", said(old.get(*name)), said(new.get(*name))));
    }
    let rules = |pod: &Value| pod::text(pod, "annotations", weft_redirect::ANNOTATION).map(str::to_owned);
    if rules(running) != rules(&now.pod) {
        found.push("other ports or addresses would be captured".to_owned());
    }
    Ok(found)
}

fn proxy(pod: &Value) -> Option<&Value> {
    let containers = pod::list(pod, "initContainers").iter().chain(pod::list(pod, "containers"));
    containers.into_iter().find(|container| pod::name(container) == PROXY)
}

fn variables(container: &Value) -> BTreeMap<&str, &str> {
    let all = container.get("env").and_then(Value::as_array).into_iter().flatten();
    all.filter_map(|variable| Some((variable["name"].as_str()?, variable["value"].as_str()?))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_as_it_would_be_until_the_mesh_says_otherwise() {
        let labels = BTreeMap::from([(crate::INJECT.to_owned(), "enabled".to_owned())]);
        let view = NamespaceView { name: "shop", labels: &labels };
        let template =
            json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a"}]}});
        let old = InjectorSettings { root_sha256: vec!["00".repeat(32)], ..InjectorSettings::default() };
        let Outcome::Injected(made) = inject(&template, &view, &old).unwrap() else { panic!("not injected") };
        let of = |settings: &InjectorSettings| drift(&template, &made.pod, &view, settings).unwrap();
        assert_eq!(of(&old), Vec::<String>::new());
        // Who does not know the root asks nothing about it.
        assert_eq!(of(&InjectorSettings::default()), Vec::<String>::new());
        let new = InjectorSettings {
            image: "weft.dev/proxy:9".to_owned(),
            log_level: "debug".to_owned(),
            skip_outbound_ports: [25].into(),
            ..old
        };
        assert_eq!(
            of(&new),
            [
                "its image is weft.dev/proxy:0.1.0, and would be weft.dev/proxy:9",
                "WEFT_PROXY_LOG is \"info\", and would be \"debug\"",
                "other ports or addresses would be captured",
            ]
        );
    }
}
