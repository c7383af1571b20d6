//! Objects of any kind, as they stand in files.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use weft_injector::{INJECT, InjectorSettings, NamespaceView, ObjectInjection, Refused, Skip, inject_object};

fn injected(object: &Value) -> Result<ObjectInjection, Refused> {
    let labels = BTreeMap::from([(INJECT.to_owned(), "enabled".to_owned())]);
    inject_object(object, &NamespaceView { name: "shop", labels: &labels }, &InjectorSettings::default())
}

fn template() -> Value {
    json!({"spec": {"containers": [{"name": "app", "image": "a"}]}})
}

#[test]
fn every_kind_with_pods_gets_its_template_injected_and_nothing_else() {
    for kind in ["Deployment", "StatefulSet", "DaemonSet", "Job", "ReplicaSet", "ReplicationController"] {
        let object = json!({"kind": kind, "metadata": {"name": "web"}, "spec": {"replicas": 2, "template": template()}});
        let result = injected(&object).unwrap();
        assert!(result.changed, "{kind}");
        assert_eq!(result.workloads[0].name, format!("{kind} shop/web"));
        let mut rest = result.object.clone();
        assert_eq!(rest["spec"]["template"]["spec"]["initContainers"][1]["name"], "weft-proxy");
        rest["spec"]["template"] = template();
        assert_eq!(rest, object, "{kind}");
    }
    let cron = json!({"kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": template()}}}});
    let result = injected(&cron).unwrap();
    let spec = &result.object["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    assert_eq!(spec["initContainers"][1]["name"], "weft-proxy");
}

#[test]
fn a_list_is_walked_and_each_workload_reported() {
    let mut pod = template();
    pod["kind"] = "Pod".into();
    pod["metadata"] = json!({"name": "one", "namespace": "pay", "labels": {"weft.dev/inject": "false"}});
    let list = json!({"kind": "List", "items": [
        {"kind": "Service", "metadata": {"name": "s"}},
        pod,
        {"kind": "Deployment", "metadata": {"name": "web"}, "spec": {"template": template()}},
    ]});
    let result = injected(&list).unwrap();
    let names: Vec<_> = result.workloads.iter().map(|w| (w.name.as_str(), w.skipped.clone())).collect();
    assert_eq!(names, [("Pod pay/one", Some(Skip::OptedOut)), ("Deployment shop/web", None)]);
    assert_eq!(result.object["items"][1], pod);
    assert_eq!(
        result.object["items"][2]["spec"]["template"]["spec"]["initContainers"][1]["name"],
        "weft-proxy"
    );
}

#[test]
fn what_has_no_pods_is_as_it_was() {
    for object in
        [json!({"kind": "ConfigMap", "spec": {"template": template()}}), json!(null), json!([1]), json!("x")]
    {
        let result = injected(&object).unwrap();
        assert_eq!((result.changed, &result.object, result.workloads.len()), (false, &object, 0));
    }
}

#[test]
fn what_is_wrong_is_said_with_the_object_s_name() {
    let mut wrong = template();
    wrong["metadata"] = json!({"annotations": {"weft.dev/drain": "soon"}});
    let object = json!({"kind": "Deployment", "metadata": {"name": "web", "namespace": "pay"}, "spec": {"template": wrong}});
    let refused = injected(&object).unwrap_err();
    let expected = "Deployment pay/web: weft.dev/drain is \"soon\": expected a duration as 500ms, 30s or 5m, from 1s to 1h";
    assert_eq!(refused.to_string(), expected);
    let empty = injected(&json!({"kind": "Job", "metadata": {"name": "once"}})).unwrap_err();
    assert_eq!(empty.to_string(), "Job shop/once: there is no spec.template");
}
