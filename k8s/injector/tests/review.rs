//! What the API server asks, and what it gets back.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use weft_injector::{BadReview, InjectorSettings, MAX_REVIEW_BYTES, Owner, Skip, Verdict, review};

fn asked(pod: Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "operation": "CREATE",
            "namespace": "shop",
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
            "object": pod,
            "dryRun": false,
        },
    })
}

fn pod() -> Value {
    json!({
        "metadata": {"generateName": "web-", "annotations": {}},
        "spec": {"containers": [{"name": "app", "image": "a", "readinessProbe": {"httpGet": {"port": 80}}}]},
    })
}

fn settings() -> InjectorSettings {
    InjectorSettings { root_sha256: vec!["ab".repeat(32)], ..InjectorSettings::default() }
}

fn answered(review_of: &Value) -> (Value, Verdict) {
    let reviewed = review(review_of.to_string().as_bytes(), &settings()).unwrap();
    let answer: Value = serde_json::from_slice(&reviewed.body).unwrap();
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(answer["kind"], "AdmissionReview");
    assert_eq!(answer["response"]["uid"], review_of["request"]["uid"]);
    (answer["response"].clone(), reviewed.verdict)
}

#[test]
fn a_pod_gets_a_patch_of_its_own_object() {
    let reviewed = review(asked(pod()).to_string().as_bytes(), &settings()).unwrap();
    assert_eq!((reviewed.namespace.as_str(), reviewed.pod.as_str()), ("shop", "web-"));
    let (response, verdict) = answered(&asked(pod()));
    assert_eq!((verdict, &response["allowed"]), (Verdict::Injected, &json!(true)));
    assert_eq!(response["patchType"], "JSONPatch");
    let patch = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    let patch: Value = serde_json::from_slice(&patch).unwrap();
    let paths: Vec<&str> = patch.as_array().unwrap().iter().map(|op| op["path"].as_str().unwrap()).collect();
    assert!(paths.contains(&"/spec/initContainers"), "{paths:?}");
    assert!(paths.contains(&"/metadata/annotations/weft.dev~1tunnel"), "{paths:?}");
    assert_eq!(response.get("warnings"), None);
}

#[test]
fn a_wrong_annotation_is_refused_with_its_name_and_what_is_allowed() {
    let mut wrong = pod();
    wrong["metadata"]["annotations"]["weft.dev/hold"] = "maybe".into();
    let (response, verdict) = answered(&asked(wrong));
    assert!(matches!(verdict, Verdict::Refused(_)), "{verdict:?}");
    assert_eq!(response["allowed"], false);
    assert_eq!(response["status"]["code"], 422);
    assert_eq!(response["status"]["message"], "weft: weft.dev/hold is \"maybe\": expected true or false");
}

#[test]
fn who_is_left_alone_against_expectation_hears_why() {
    let mut host = pod();
    host["spec"]["hostNetwork"] = true.into();
    let (response, verdict) = answered(&asked(host));
    assert_eq!((verdict, &response["allowed"]), (Verdict::Skipped(Skip::HostNetwork), &json!(true)));
    assert_eq!(response.get("patch"), None);
    assert!(response["warnings"][0].as_str().unwrap().contains("host's network"), "{response}");
    let mut opted_out = pod();
    opted_out["metadata"]["labels"] = json!({"weft.dev/inject": "false"});
    let (response, verdict) = answered(&asked(opted_out));
    assert_eq!(verdict, Verdict::Skipped(Skip::OptedOut));
    assert_eq!(response.get("warnings"), None);
}

#[test]
fn who_a_pod_belongs_to_is_its_controller() {
    let reviewed = |pod: &Value, dry_run: Value| {
        let mut asked = asked(pod.clone());
        asked["request"]["dryRun"] = dry_run;
        review(asked.to_string().as_bytes(), &settings()).unwrap()
    };
    let mut owned = pod();
    let of = |kind: &str, controller: Value| json!({"apiVersion": "apps/v1", "kind": kind, "name": "web", "uid": "u1", "controller": controller});
    owned["metadata"]["ownerReferences"] = json!([of("Other", Value::Null), of("ReplicaSet", true.into())]);
    let text = str::to_owned;
    let owner =
        Owner { api_version: text("apps/v1"), kind: text("ReplicaSet"), name: text("web"), uid: text("u1") };
    let one = reviewed(&owned, true.into());
    assert_eq!((one.owner, one.is_named, one.is_dry_run), (Some(owner), false, true));
    let mut named = pod();
    named["metadata"]["name"] = "web-0".into();
    let one = reviewed(&named, Value::Null);
    assert_eq!((one.owner, one.is_named, one.is_dry_run, one.pod.as_str()), (None, true, false, "web-0"));
    for wrong in
        [json!("x"), json!([1]), json!([of("ReplicaSet", "true".into())]), json!([{"controller": true}])]
    {
        owned["metadata"]["ownerReferences"] = wrong;
        assert_eq!(reviewed(&owned, false.into()).owner, None);
    }
}

#[test]
fn what_is_no_creation_of_a_pod_is_let_through() {
    for (pointer, value) in [
        ("/request/kind/kind", "Deployment"),
        ("/request/kind/group", "other.example"),
        ("/request/operation", "UPDATE"),
        ("/request/operation", "DELETE"),
    ] {
        let mut other = asked(pod());
        *other.pointer_mut(pointer).unwrap() = value.into();
        let (response, verdict) = answered(&other);
        assert_eq!(
            (verdict, response),
            (Verdict::NotAPod, json!({"uid": other["request"]["uid"], "allowed": true}))
        );
    }
    let mut sub = asked(pod());
    sub["request"]["subResource"] = "ephemeralcontainers".into();
    assert_eq!(answered(&sub).1, Verdict::NotAPod);
}

#[test]
fn what_is_no_review_is_an_error() {
    let mut old = asked(pod());
    old["apiVersion"] = "admission.k8s.io/v1beta1".into();
    let mut without = asked(pod());
    without.as_object_mut().unwrap().remove("request");
    for bad in ["", "[]", "{}", "\u{1}", &old.to_string(), &without.to_string()] {
        assert!(matches!(review(bad.as_bytes(), &settings()), Err(BadReview::Unreadable(_))), "{bad}");
    }
    let deep = "[".repeat(100_000);
    assert!(matches!(review(deep.as_bytes(), &settings()), Err(BadReview::Unreadable(_))));
    let large = vec![b' '; MAX_REVIEW_BYTES + 1];
    assert!(matches!(review(&large, &settings()), Err(BadReview::TooLarge(_))));
}

/// The bound is of optimised code; what tests run is several times slower.
#[test]
fn a_large_pod_takes_a_millisecond_or_two() {
    let mut large = pod();
    large["spec"]["containers"] = (0..10)
        .map(|n| {
            let env: Vec<Value> =
                (0..50).map(|v| json!({"name": format!("V{v}"), "value": "x".repeat(100)})).collect();
            json!({"name": format!("c{n}"), "env": env, "livenessProbe": {"tcpSocket": {"port": 80}}})
        })
        .collect();
    let review_of = asked(large).to_string();
    let mut took: Vec<Duration> = (0..200)
        .map(|_| {
            let start = Instant::now();
            assert_eq!(review(review_of.as_bytes(), &settings()).unwrap().verdict, Verdict::Injected);
            start.elapsed()
        })
        .collect();
    took.sort();
    println!("{} bytes: p50 {:?}, p99 {:?}", review_of.len(), took[100], took[198]);
    assert!(took[100] < Duration::from_millis(20), "p50 {:?}", took[100]);
}
