//! The proxy's settings as environment variables, `WEFT_PROXY_SECTION__KEY`, in the syntax that the proxy reads.
//!
//! Every text is quoted, or a pod called `1` would be a number; and written in ASCII, since the proxy's reader takes no
//! other characters beside an escape. Kubernetes replaces `$(NAME)` in values, so every `$` that is not ours is doubled.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use weft_model::{Network, PortName};

use crate::options::Options;
use crate::probes::{Probe, Target};
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
        set(PROBES, probe_list(probes));
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
        set("WEFT_PROXY_UPSTREAM", upstreams(options));
    }
    variables
}

/// `[[health.probe]]`.
pub(crate) fn probe_list(probes: &[Probe]) -> String {
    list(probes.iter().map(|probe| {
        let target = match &probe.target {
            Target::Http { port, path, host, https, headers } => {
                let headers = headers
                    .iter()
                    .map(|header| table(&[("name", quoted(&header.name)), ("value", quoted(&header.value))]));
                let mut http = vec![("port", port.to_string()), ("path", quoted(path))];
                http.extend(host.as_ref().map(|host| ("host", quoted(host))));
                http.extend(https.then(|| ("https", "true".to_owned())));
                http.extend((headers.len() > 0).then(|| ("headers", list(headers))));
                ("http", table(&http))
            }
            Target::Tcp { port } => ("tcp", table(&[("port", port.to_string())])),
            Target::Grpc { port, service } if service.is_empty() => {
                ("grpc", table(&[("port", port.to_string())]))
            }
            Target::Grpc { port, service } => {
                ("grpc", table(&[("port", port.to_string()), ("service", quoted(service))]))
            }
        };
        table(&[("name", quoted(&probe.name)), ("timeout", quoted(&format!("{}s", probe.timeout))), target])
    }))
}

/// How many tables and lists the probes make.
pub(crate) fn probe_tables(probes: &[Probe]) -> usize {
    let text = probe_list(probes);
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

fn upstreams(options: &Options) -> String {
    list(options.upstreams.iter().map(|upstream| {
        let namespace = upstream.namespace.as_ref().unwrap_or(&options.namespace);
        let mut fields = vec![("service", quoted(&format!("{namespace}/{}", upstream.service)))];
        fields.extend(upstream.port.as_ref().map(|port| ("port", quoted(port.as_str()))));
        fields.push(("listen", quoted(&upstream.listen.to_string())));
        table(&fields)
    }))
}

fn both_families(v4: &str, v6: &str, port: u16) -> String {
    list([v4, v6].iter().map(|address| quoted(&format!("{address}:{port}"))))
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

fn table(fields: &[(&str, String)]) -> String {
    let fields: Vec<String> = fields.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{{{}}}", fields.join(","))
}

fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            _ if u32::from(c) <= 0xffff => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_in_ascii() {
        assert_eq!(quoted("a\"b\\c\té😀"), r#""a\"b\\c\u0009\u00e9\U0001f600""#);
    }
}
