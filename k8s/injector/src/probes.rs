//! The application's probes and HTTP hooks, led through the proxy: the kubelet asks the proxy's health port, and the
//! proxy asks the application on loopback.
//!
//! The kubelet has no certificate, so under strict mTLS it would be refused; and through a capture a probe of TCP would
//! say of the proxy what is asked of the application. `exec` is left as it is, and so is what names a `host`: that is a
//! connection from the node to somewhere else.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{pod, port};

/// What the proxy asks in the kubelet's place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// `CONTAINER.KIND`, which is also the path at the health port.
    pub name: String,
    /// In seconds.
    pub timeout: u64,
    /// How it asks.
    #[serde(flatten)]
    pub target: Target,
}

/// How it asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// A `GET`.
    Http {
        /// The application's.
        port: u16,
        /// With its query.
        path: String,
        /// What the request's `Host` says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<String>,
        /// Over TLS.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        https: bool,
        /// Further headers.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        headers: Vec<Header>,
    },
    /// A connection.
    Tcp {
        /// The application's.
        port: u16,
    },
    /// `grpc.health.v1.Health/Check`.
    Grpc {
        /// The application's.
        port: u16,
        /// Whose health is asked; empty: the server's.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        service: String,
    },
}

/// A header of a probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Rewrites what is not rewritten yet, and returns what it was.
pub(crate) fn rewrite(pod: &mut Value, warnings: &mut Vec<String>) -> Vec<Probe> {
    let mut probes = Vec::new();
    for container in pod::lasting_mut(pod) {
        let places = [
            ("/livenessProbe", "liveness"),
            ("/readinessProbe", "readiness"),
            ("/startupProbe", "startup"),
            ("/lifecycle/postStart", "postStart"),
            ("/lifecycle/preStop", "preStop"),
        ];
        for (pointer, kind) in places {
            let name = format!("{}.{kind}", pod::name(container));
            match probe(container, pointer, name) {
                Ok(None) => {}
                Ok(Some(probe)) => {
                    replace(container, pointer, &probe.name);
                    probes.push(probe);
                }
                Err(warning) => warnings.push(warning),
            }
        }
    }
    probes
}

/// What is there, where the proxy has to ask it.
fn probe(container: &Value, pointer: &str, name: String) -> Result<Option<Probe>, String> {
    let Some(found) = container.pointer(pointer) else { return Ok(None) };
    // A hook has no timeout; the kubelet waits for it as long as the pod's grace period is.
    let timeout =
        match (pointer.starts_with("/lifecycle"), found.get("timeoutSeconds").and_then(Value::as_u64)) {
            (true, _) => 30,
            (false, given) => given.unwrap_or(1).max(1),
        };
    let handler = |kind: &str| found.get(kind).filter(|handler| handler.get("host").is_none_or(is_empty));
    let target = if let Some(http) = handler("httpGet").filter(|http| !is_ours(http)) {
        http_target(container, http, &name)?
    } else if let Some(tcp) = handler("tcpSocket") {
        Target::Tcp { port: port_of(container, tcp, &name)? }
    } else if let Some(grpc) = handler("grpc") {
        let service = text(grpc, "service").unwrap_or_default().to_owned();
        Target::Grpc { port: port_of(container, grpc, &name)?, service }
    } else {
        return Ok(None);
    };
    Ok(Some(Probe { name, timeout, target }))
}

fn http_target(container: &Value, http: &Value, name: &str) -> Result<Target, String> {
    let headers = http.get("httpHeaders").and_then(Value::as_array).into_iter().flatten();
    let headers =
        headers.filter_map(|header| Some((text(header, "name")?, text(header, "value").unwrap_or_default())));
    // The kubelet takes the header for the request's host, too.
    let (hosts, others): (Vec<_>, Vec<_>) = headers.partition(|(name, _)| name.eq_ignore_ascii_case("host"));
    Ok(Target::Http {
        port: port_of(container, http, name)?,
        path: text(http, "path").filter(|path| !path.is_empty()).unwrap_or("/").to_owned(),
        host: hosts.first().map(|(_, host)| (*host).to_owned()),
        https: text(http, "scheme") == Some("HTTPS"),
        headers: others
            .into_iter()
            .map(|(name, value)| Header { name: name.to_owned(), value: value.to_owned() })
            .collect(),
    })
}

/// The port's number; a name is one of the container's ports.
fn port_of(container: &Value, handler: &Value, probe: &str) -> Result<u16, String> {
    let port = handler.get("port").unwrap_or(&Value::Null);
    let number = match port.as_str() {
        None => port.as_u64(),
        Some(name) => {
            let ports = container.get("ports").and_then(Value::as_array).into_iter().flatten();
            let named = ports.filter(|port| pod::name(port) == name);
            named.filter_map(|port| port.get("containerPort")?.as_u64()).next().or_else(|| name.parse().ok())
        }
    };
    let number = number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number != 0);
    if number.is_some_and(|number| port::ALL.contains(&number)) {
        return Err(format!("the probe {probe} is left as it is: port {port} is one of the proxy's"));
    }
    number.ok_or_else(|| format!("the probe {probe} is left as it is: its container has no port {port}"))
}

/// Puts the proxy in the place of what was asked. How often, and after how many failures, is as it was.
fn replace(container: &mut Value, pointer: &str, name: &str) {
    let Some(Value::Object(probe)) = container.pointer_mut(pointer) else { return };
    for handler in ["httpGet", "tcpSocket", "grpc"] {
        probe.remove(handler);
    }
    probe.insert(
        "httpGet".to_owned(),
        json!({"path": format!("{PATH}{name}"), "port": port::HEALTH, "scheme": "HTTP"}),
    );
}

fn is_ours(http: &Value) -> bool {
    http.get("port").and_then(Value::as_u64) == Some(port::HEALTH.into())
        && text(http, "path").is_some_and(|path| path.starts_with(PATH))
}

fn is_empty(host: &Value) -> bool {
    host.as_str().is_none_or(str::is_empty)
}

fn text<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value.get(field)?.as_str()
}

/// Where the health port answers for a probe.
const PATH: &str = "/probe/";
