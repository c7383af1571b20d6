//! The proxy's container and its volumes.
//!
//! As a native sidecar it is an init container that goes on: the kubelet starts the application when the proxy is ready,
//! and stops the proxy when the application has ended. Where there are none, it is the first ordinary container, and the
//! kubelet waits for its `postStart` before it starts the next.

use std::time::Duration;

use serde_json::{Value, json};

use crate::options::Options;
use crate::probes::Probe;
use crate::{InjectorSettings, PROXY, PROXY_ID, environment, port};

pub(crate) const STATE_VOLUME: &str = "weft-state";
pub(crate) const TOKEN_VOLUME: &str = "weft-token";
pub(crate) const STATE_PATH: &str = "/var/lib/weft-proxy";
pub(crate) const TOKEN_PATH: &str = "/var/run/secrets/weft.dev";
/// How long an ordinary container goes on beside an application that is told to stop.
pub(crate) const ORDINARY_GRACE: Duration = Duration::from_secs(5);

/// The proxy's container.
pub(crate) fn proxy(pod: &Value, options: &Options, settings: &InjectorSettings, probes: &[Probe]) -> Value {
    let ready = json!({"path": "/ready", "port": port::HEALTH, "scheme": "HTTP"});
    let mut container = json!({
        "name": PROXY,
        "image": settings.image,
        "command": ["/usr/bin/weft-proxy"],
        "env": environment::variables(pod, options, settings, probes),
        "ports": [
            {"name": "weft-tunnel", "containerPort": port::TUNNEL, "protocol": "TCP"},
            {"name": "weft-health", "containerPort": port::HEALTH, "protocol": "TCP"},
        ],
        "readinessProbe": {"httpGet": ready, "periodSeconds": 2, "failureThreshold": 3},
        "resources": resources(options),
        "securityContext": security(PROXY_ID),
        "volumeMounts": [
            {"name": STATE_VOLUME, "mountPath": STATE_PATH},
            {"name": TOKEN_VOLUME, "mountPath": TOKEN_PATH, "readOnly": true},
        ],
    });
    if settings.native_sidecars {
        container["restartPolicy"] = "Always".into();
        if options.hold {
            // Ten minutes: a proxy that is not ready then is started anew.
            container["startupProbe"] =
                json!({"httpGet": ready, "periodSeconds": 1, "failureThreshold": 600});
        }
    } else if options.hold {
        let wait = ["/usr/bin/weft-proxy", "--await-ready", &format!("127.0.0.1:{}", port::HEALTH)];
        container["lifecycle"] = json!({"postStart": {"exec": {"command": wait}}});
    }
    set_pull_policy(&mut container, settings);
    container
}

/// What the proxy's container mounts: memory for its key and what it last knew, and its token.
pub(crate) fn volumes(settings: &InjectorSettings) -> [Value; 2] {
    let token = json!({"audience": settings.audience, "expirationSeconds": 3600, "path": "token"});
    [
        json!({"name": STATE_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}}),
        json!({"name": TOKEN_VOLUME, "projected": {"sources": [{"serviceAccountToken": token}]}}),
    ]
}

/// What the restricted level of Pod Security asks for.
pub(crate) fn security(user: u32) -> Value {
    json!({
        "runAsUser": user,
        "runAsGroup": user,
        "runAsNonRoot": true,
        "privileged": false,
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

/// Sets the policy where the settings have one.
pub(crate) fn set_pull_policy(container: &mut Value, settings: &InjectorSettings) {
    if let (Some(policy), Value::Object(container)) = (settings.image_pull_policy, container) {
        container.insert("imagePullPolicy".to_owned(), json!(policy));
    }
}

fn resources(options: &Options) -> Value {
    let mut resources =
        json!({"requests": {"cpu": options.cpu.to_string(), "memory": options.memory.to_string()}});
    if let Some(limit) = options.cpu_limit {
        resources["limits"]["cpu"] = limit.to_string().into();
    }
    if let Some(limit) = options.memory_limit {
        resources["limits"]["memory"] = limit.to_string().into();
    }
    resources
}
