//! How a pod's traffic comes to its proxy: an init container that sets up the rules, or, with the CNI plugin, one that
//! only looks whether they are there.
//!
//! The rules are those of `weft-redirect`. They are always in the pod's annotation, too: the plugin reads them there.

use serde_json::{Value, json};
use weft_redirect::RedirectSettings;

use crate::options::Options;
use crate::{InjectorSettings, container, port};

/// What is captured of this pod.
pub(crate) fn redirect(options: &Options) -> RedirectSettings {
    let cidrs = options.skip_outbound_cidrs.iter().filter_map(|cidr| cidr.to_string().parse().ok());
    RedirectSettings {
        proxy_uid: crate::PROXY_ID,
        proxy_gid: Some(crate::PROXY_ID),
        outbound_port: port::OUTBOUND,
        inbound_port: port::INBOUND,
        tunnel_port: port::TUNNEL,
        health_port: port::HEALTH,
        admin_port: port::ADMIN,
        dns_port: options.dns.then_some(port::DNS),
        exclude_inbound_ports: options.skip_inbound_ports.iter().copied().collect(),
        exclude_outbound_ports: options.skip_outbound_ports.iter().copied().collect(),
        exclude_outbound_cidrs: cidrs.collect(),
        ..RedirectSettings::default()
    }
}

/// The init container.
pub(crate) fn init_container(redirect: &RedirectSettings, settings: &InjectorSettings) -> Value {
    let (name, verb, security) = match settings.cni {
        true => (weft_redirect::VERIFY_CONTAINER, "verify", container::security(NOBODY)),
        false => (weft_redirect::INIT_CONTAINER, "apply", privileged()),
    };
    let mut init = json!({
        "name": name,
        "image": settings.image,
        "command": ["/usr/bin/weft-redirect"],
        "args": [verb, "--settings", redirect.annotation()],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "1", "memory": "64Mi"}},
        "securityContext": security,
    });
    container::set_pull_policy(&mut init, settings);
    init
}

/// A user whose traffic is captured as the application's is.
const NOBODY: u32 = 65534;

/// Root, since a container without it gets no capability; and of root's capabilities only the one for the rules.
fn privileged() -> Value {
    json!({
        "runAsUser": 0,
        "runAsGroup": 0,
        "runAsNonRoot": false,
        "privileged": false,
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}
