//! The proxy's settings as environment variables, `WEFT_PROXY_SECTION__KEY`, in the syntax that the proxy reads.
//!
//! Kubernetes replaces `$(NAME)` in values, so every `$` that is not ours is doubled.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use weft_model::{Network, PortName};

use crate::options::Options;
use crate::probes::Probe;
use crate::written::{self, both_families, list, quoted, table};
use crate::{InjectorSettings, container, pod, port};

/// The variable with the probes, which may grow when a pod is looked at again.
pub(crate) const PROBES: &str = "WEFT_PROXY_HEALTH__PROBE";
/// The variable with the mesh's roots.
pub(crate) const ROOTS: &str = "WEFT_PROXY_CONTROL__ROOT_SHA256";
/// More the proxy does not read: each has two tables, and a variable at most 64 lists and tables.
pub(crate) const MOST_TABLES: usize = 63;

/// All variables.
pub(crate) fn variables(
    pod: &Value,
    options: &Options,
    settings: &InjectorSettings,
    probes: &[Probe],
) -> Vec<Value> {
    let mut variables = vec![
        json!({"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}),
        json!({"name": "WEFT_PROXY_WORKLOAD__NAME", "value": "\"$(POD_NAME)\""}),
        // By these it learns its zone and node, which no pod can know of itself.
        json!({"name": "POD_IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}}),
        json!({"name": "WEFT_PROXY_LOCALITY__ADDRESSES", "value": "\"$(POD_IPS)\""}),
    ];
    let mut set =
        |name: &str, value: String| variables.push(json!({"name": name, "value": value.replace('$', "$$")}));
    set("WEFT_PROXY_STATE_DIR", quoted(&format!("{}/state", container::STATE_PATH)));
    set("WEFT_PROXY_LOG", quoted(&options.log_level));
    for (name, value) in
        [("WEFT_PROXY_WORKLOAD__APP", &options.app), ("WEFT_PROXY_WORKLOAD__VERSION", &options.version)]
    {
        if !value.is_empty() {
            set(name, quoted(value));
        }
    }
    set("WEFT_PROXY_CONTROL__ADDRESSES", list(settings.control.iter().map(|address| quoted(address))));
    if !settings.root_sha256.is_empty() {
        set(ROOTS, list(settings.root_sha256.iter().map(|pin| quoted(pin))));
    }
    set("WEFT_PROXY_IDENTITY__KUBERNETES__REGISTRY", quoted(&settings.registry.to_string()));
    set("WEFT_PROXY_IDENTITY__KUBERNETES__TOKEN_FILE", quoted(&format!("{}/token", container::TOKEN_PATH)));
    set("WEFT_PROXY_DRAIN__DEADLINE", quoted(&format!("{}ms", options.drain.as_millis())));
    if !settings.native_sidecars {
        // Told to stop together with the application, it takes connections until that has had its time.
        let grace = (settings.stop_delay + container::ORDINARY_GRACE).min(options.drain);
        set("WEFT_PROXY_DRAIN__GRACE", quoted(&format!("{}ms", grace.as_millis())));
    }
    // Of both families, or the one that the pod has.
    set("WEFT_PROXY_HEALTH__LISTEN", quoted(&format!("[::]:{}", port::HEALTH)));
    set("WEFT_PROXY_TUNNEL__LISTEN", quoted(&format!("[::]:{}", port::TUNNEL)));
    if !probes.is_empty() {
        set(PROBES, written::probes(probes));
    }
    // Also without capture: the own addresses are valid in it.
    if options.network != Network::default_network() {
        set("WEFT_PROXY_CAPTURE__NETWORK", quoted(options.network.as_str()));
    }
    if options.capture {
        set("WEFT_PROXY_CAPTURE__OUTBOUND", both_families("127.0.0.1", "[::1]", port::OUTBOUND));
        set("WEFT_PROXY_CAPTURE__INBOUND", both_families("0.0.0.0", "[::]", port::INBOUND));
        set("WEFT_PROXY_CAPTURE__UNKNOWN", quoted(options.unknown.as_str()));
        set("WEFT_PROXY_CAPTURE__PLAINTEXT", quoted(options.inbound_plaintext.as_str()));
        if options.dns {
            set("WEFT_PROXY_DNS__LISTEN", both_families("127.0.0.1", "[::1]", port::DNS));
        }
    } else if let Some(inbound) = inbound(pod, options) {
        set("WEFT_PROXY_INBOUND", inbound);
    }
    if !options.upstreams.is_empty() {
        set("WEFT_PROXY_UPSTREAM", written::upstreams(&options.upstreams, &options.namespace));
    }
    variables
}

/// How many tables and lists the probes make.
pub(crate) fn probe_tables(probes: &[Probe]) -> usize {
    let text = written::probes(probes);
    text.matches(['[', '{']).count()
}

/// `[[inbound]]`: the ports that the containers declare, where no capture brings every port. `None`: there are none, so
/// nobody can reach the pod through its proxy.
pub(crate) fn inbound(pod: &Value, options: &Options) -> Option<String> {
    let service = format!("{}/{}", options.namespace, options.service);
    let ports: BTreeMap<u64, Option<&str>> =
        declared_ports(pod).map(|port| (port.number, port.name)).collect();
    let tables = ports.iter().map(|(number, name)| {
        let name: Option<PortName> = name.and_then(|name| name.parse().ok());
        let mut fields = vec![("service", quoted(&service)), ("port", number.to_string())];
        let protocol = options.metadata.protocol_for(name.as_ref());
        fields.extend(protocol.map(|protocol| ("protocol", quoted(protocol.as_str()))));
        table(&fields)
    });
    (!ports.is_empty()).then(|| list(tables))
}

/// A port that a container of the application declares.
pub(crate) struct DeclaredPort<'a> {
    pub(crate) container: &'a str,
    pub(crate) name: Option<&'a str>,
    pub(crate) number: u64,
}

/// Those of TCP.
pub(crate) fn declared_ports(pod: &Value) -> impl Iterator<Item = DeclaredPort<'_>> {
    pod::lasting(pod).flat_map(|container| {
        let ports = container.get("ports").and_then(Value::as_array).into_iter().flatten();
        let tcp = ports.filter(|port| port.get("protocol").and_then(Value::as_str).unwrap_or("TCP") == "TCP");
        tcp.filter_map(|port| {
            let name = port.get("name").and_then(Value::as_str);
            Some(DeclaredPort {
                container: pod::name(container),
                name,
                number: port.get("containerPort")?.as_u64()?,
            })
        })
    })
}
