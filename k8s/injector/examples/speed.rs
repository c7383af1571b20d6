//! What a review costs: `cargo run --release -p weft-injector --example speed`.
//!
//! A pod of two containers with probes, as a review of the API server's, and the same with 64 kB of environment.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a measurement that goes wrong should say so and end"
)]

use std::time::{Duration, Instant};

use serde_json::json;
use weft_injector::{InjectorSettings, review};

const REVIEWS: usize = 20_000;

fn main() {
    for (what, bytes) in [("a pod of 3 kB", 0), ("a pod of 64 kB", 60_000)] {
        let body = pod(bytes);
        let settings = InjectorSettings { root_sha256: vec!["ab".repeat(32)], ..InjectorSettings::default() };
        let mut took: Vec<Duration> = Vec::with_capacity(REVIEWS);
        let start = Instant::now();
        for _ in 0..REVIEWS {
            let began = Instant::now();
            let reviewed = review(&body, &settings).unwrap();
            took.push(began.elapsed());
            assert!(reviewed.body.len() > 1000, "{:?}", reviewed.verdict);
        }
        let per_second = REVIEWS as f64 / start.elapsed().as_secs_f64();
        took.sort_unstable();
        let at = |part: f64| took[(REVIEWS as f64 * part) as usize];
        println!("{what}: p50 {:?}, p99 {:?}, {per_second:.0} a second on one thread", at(0.5), at(0.99));
    }
}

fn pod(bytes: usize) -> Vec<u8> {
    let container = |name: &str, port: u16| {
        json!({
            "name": name, "image": format!("registry.example/{name}:1"), "ports": [{"containerPort": port, "name": name}],
            "readinessProbe": {"httpGet": {"path": "/ready", "port": name}, "periodSeconds": 1},
            "livenessProbe": {"tcpSocket": {"port": port}},
            "env": [{"name": "BYTES", "value": "x".repeat(bytes / 2)}],
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
            "volumeMounts": [{"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}],
        })
    };
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "web-", "namespace": "shop", "labels": {"app": "web", "version": "v1"},
                     "annotations": {"weft.dev/inject": "true", "weft.dev/upstreams": "api=9000,shop/store:5432=9001"}},
        "spec": {"serviceAccountName": "web", "containers": [container("web", 8080), container("admin", 9090)],
                 "volumes": [{"name": "token", "emptyDir": {}}]},
    });
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {"uid": "u", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE",
                    "namespace": "shop", "object": pod},
    });
    serde_json::to_vec(&review).unwrap()
}
