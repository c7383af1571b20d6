//! The objects that the demo makes in the cluster, as JSON. Pure. All but the first are in the demo's namespace, and
//! go with it.

use serde_json::{Value, json};

use crate::demo::member::Role;

/// Who is on this machine: `billing` in the files, `ledger` in Consul, half of `api`, and `shop`, which calls it.
pub(super) const HERE: &[Role] = &[
    Role { name: "billing", service: "billing", version: "here", protocol: "http1", upstreams: &[] },
    Role { name: "api-here", service: "api", version: "here", protocol: "http1", upstreams: &[] },
    Role { name: "shop", service: "shop", version: "here", protocol: "http1", upstreams: &["api"] },
    Role { name: "ledger", service: "ledger", version: "here", protocol: "http1", upstreams: &[] },
];
/// The version of `api` whose instances are pods.
pub(super) const POD: &str = "pod";
/// The port of each application in a pod.
pub(super) const PORT: u16 = 8080;
/// Upstreams of the pod `web`: the service, its local port, and the port of the container that calls it.
pub(super) const UPSTREAMS: &[(&str, u16, u16)] = &[("billing", 9100, 8081), ("ledger", 9101, 8082)];
/// The label of all demos' namespaces, by which one that was left behind is found.
pub(super) const DEMO: (&str, &str) = ("app.kubernetes.io/part-of", "weft-demo");

/// The namespace.
pub(super) fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {
        (DEMO.0): DEMO.1,
        // The init container that captures a pod's traffic has NET_ADMIN.
        "pod-security.kubernetes.io/enforce": "privileged",
    }}})
}

/// A pod without a proxy: it looks whether the network allows a demo, and is refused later. Its second container calls
/// this machine.
pub(super) fn stranger(image: &str, here: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stranger", "labels": {"app": "stranger"}}, "spec": {
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": false,
        "containers": [
            application("stranger", "stranger", image, PORT, Some("http://api/")),
            application("looks", "stranger", image, PORT + 1, Some(here)),
        ],
    }})
}

/// `api` and `web`, each with its service account and Deployment, and the Service of `api`.
pub(super) fn shop(image: &str, upstreams: &[&(&str, u16, u16)]) -> Vec<(&'static str, Value)> {
    let account =
        |name: &str| json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "api"}, "spec": {
        "selector": {"app": "api"},
        "ports": [{"name": "http", "port": 80, "targetPort": PORT}],
    }});
    let api = deployment(
        "api",
        2,
        &json!({"weft.dev/inbound-plaintext": "strict"}),
        &[application("api", "api", image, PORT, None)],
    );
    let lines: Vec<String> = upstreams.iter().map(|(name, port, _)| format!("{name}={port}")).collect();
    let mut callers = vec![application("web", "web", image, PORT, Some("http://api/"))];
    callers.extend(upstreams.iter().map(|(name, port, own)| {
        application(&format!("calls-{name}"), "web", image, *own, Some(&format!("http://127.0.0.1:{port}/")))
    }));
    let web = deployment("web", 1, &json!({"weft.dev/upstreams": lines.join(",")}), &callers);
    vec![
        ("api/v1/serviceaccounts", account("api")),
        ("api/v1/serviceaccounts", account("web")),
        ("api/v1/services", service),
        ("apis/apps/v1/deployments", api),
        ("apis/apps/v1/deployments", web),
    ]
}

fn deployment(name: &str, replicas: u32, annotations: &Value, containers: &[Value]) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": name}},
        "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {
            "metadata": {"labels": {"app": name, "version": POD}, "annotations": annotations},
            "spec": {
                "serviceAccountName": name,
                // The application does not listen to SIGTERM: it ends when this is over, which its callers know by then.
                "terminationGracePeriodSeconds": 4,
                "containers": containers,
            },
        },
    }})
}

/// A container with the demo's small HTTP server, which asks `upstream` when it is asked for `/relay`.
fn application(name: &str, service: &str, image: &str, port: u16, upstream: Option<&str>) -> Value {
    let listen = format!("0.0.0.0:{port}");
    let mut command =
        vec!["/usr/bin/weft", "workload", "http", "--name", service, "--version", POD, "--listen", &listen];
    command.extend(upstream.iter().flat_map(|upstream| ["--upstream", upstream]));
    json!({
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "ports": [{"containerPort": port}],
        "readinessProbe": {"httpGet": {"path": "/", "port": port}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "128Mi"}},
        "securityContext": {"runAsUser": 65534, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use weft_injector::{InjectorSettings, NamespaceView, inject_object};

    use super::*;

    #[test]
    fn every_deployment_gets_a_proxy_without_a_warning() {
        let labels = BTreeMap::from([(weft_injector::INJECT.to_owned(), "enabled".to_owned())]);
        let view = NamespaceView { name: "weft-demo-1", labels: &labels };
        let upstreams: Vec<_> = UPSTREAMS.iter().collect();
        let settings = InjectorSettings { root_sha256: vec!["0".repeat(64)], ..InjectorSettings::default() };
        let mut proxies = 0;
        for (_, object) in shop("i", &upstreams) {
            let injected = inject_object(&object, &view, &settings).unwrap();
            for workload in injected.workloads {
                assert_eq!((workload.skipped, workload.warnings), (None, vec![]), "{}", workload.name);
                proxies += 1;
            }
        }
        assert_eq!(proxies, 2);
    }
}
