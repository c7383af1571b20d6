//! The group's network: which mode it has, which ports are in it, and the ports that the sidecar needs.

use serde_json::{Value, json};
use weft_injector::port;

use crate::job;
use crate::options::Options;
use crate::{ADMIN_PORT, HEALTH_PORT, TUNNEL_PORT, UPSTREAM_PORT};

/// Whose network the group's tasks are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The allocation's own: `bridge`, `cni/…`.
    Own,
    /// The node's.
    Host,
}

impl Mode {
    /// The group's.
    ///
    /// # Errors
    /// Where no proxy can be beside its tasks.
    pub(crate) fn of(group: &Value) -> Result<Self, String> {
        let networks = job::list(group, "Networks");
        match networks {
            [] => Ok(Self::Host),
            [network] => match job::text(network, "Mode") {
                "bridge" => Ok(Self::Own),
                mode if mode.starts_with("cni/") => Ok(Self::Own),
                "" | "host" => Ok(Self::Host),
                mode => Err(format!(
                    "network: mode {mode:?} leaves no place for a proxy; expected \"bridge\", \"cni/NAME\" or \"host\""
                )),
            },
            _ => Err(format!("network: there are {}; expected one", networks.len())),
        }
    }
}

/// A port of the group, by its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Port {
    /// Where it leads inside the allocation's own network; `None`: to the same number.
    pub(crate) to: Option<u16>,
}

/// The group's port of this label.
pub(crate) fn port(group: &Value, label: &str) -> Option<Port> {
    let network = job::list(group, "Networks").first()?;
    let ports = ["DynamicPorts", "ReservedPorts"].into_iter().flat_map(|field| job::list(network, field));
    let found = { ports }.find(|port| job::text(port, "Label") == label)?;
    let to = found.get("To").and_then(Value::as_i64).and_then(|to| u16::try_from(to).ok());
    Some(Port { to: to.filter(|to| *to != 0) })
}

/// Where the application's ports lead inside, for those that say so.
pub(crate) fn inner_ports(group: &Value) -> Vec<(String, u16)> {
    let networks = job::list(group, "Networks").iter();
    let ports = networks
        .flat_map(|network| ["DynamicPorts", "ReservedPorts"].map(|field| job::list(network, field)))
        .flatten();
    let inner = |port: &Value| {
        let to = port.get("To").and_then(Value::as_i64).filter(|to| *to > 0);
        let number = to.or_else(|| port.get("Value").and_then(Value::as_i64))?;
        Some((job::text(port, "Label").to_owned(), u16::try_from(number).ok().filter(|number| *number != 0)?))
    };
    ports.filter_map(inner).collect()
}

/// Labels that the application has and the sidecar needs.
pub(crate) fn taken(group: &Value) -> Vec<String> {
    let ours = |label: &str| {
        [TUNNEL_PORT, HEALTH_PORT, ADMIN_PORT].contains(&label) || label.starts_with(UPSTREAM_PORT)
    };
    let networks = job::list(group, "Networks").iter();
    let ports = networks
        .flat_map(|network| ["DynamicPorts", "ReservedPorts"].map(|field| job::list(network, field)))
        .flatten();
    ports.map(|port| job::text(port, "Label").to_owned()).filter(|label| ours(label)).collect()
}

/// What was added to the network.
#[derive(Debug, Default)]
pub(crate) struct Added {
    pub(crate) labels: Vec<String>,
    pub(crate) network: bool,
}

/// Adds the sidecar's ports.
pub(crate) fn add(group: &mut Value, mode: Mode, options: &Options) -> Added {
    let mut added = Added::default();
    if job::list(group, "Networks").is_empty() {
        job::list_mut(group, "Networks").push(json!({"Mode": "host"}));
        added.network = true;
    }
    let Some(network) = job::each_mut(group, "Networks").next() else { return added };
    let mut add = |field: &str, port: Value| {
        added.labels.push(job::text(&port, "Label").to_owned());
        job::list_mut(network, field).push(port);
    };
    let dynamic =
        |label: &str, to: u16| json!({"Label": label, "To": to, "Value": 0, "HostNetwork": "default"});
    match mode {
        Mode::Own => {
            add("DynamicPorts", dynamic(TUNNEL_PORT, port::TUNNEL));
            add("DynamicPorts", dynamic(HEALTH_PORT, port::HEALTH));
        }
        Mode::Host => {
            for label in [TUNNEL_PORT, HEALTH_PORT, ADMIN_PORT] {
                add("DynamicPorts", dynamic(label, 0));
            }
            // So that Nomad never places two that want the same one on a node.
            for upstream in &options.upstreams {
                let number = upstream.listen.port();
                let label = format!("{UPSTREAM_PORT}{number}");
                add(
                    "ReservedPorts",
                    json!({"Label": label, "To": 0, "Value": number, "HostNetwork": "default"}),
                );
            }
        }
    }
    added
}

/// Takes them away again.
pub(crate) fn take_away(group: &mut Value, labels: &[String], network: bool) {
    for network in job::each_mut(group, "Networks") {
        for field in ["DynamicPorts", "ReservedPorts"] {
            let ours = |port: &Value| labels.iter().any(|label| label == job::text(port, "Label"));
            if network.get(field).is_some_and(Value::is_array) {
                job::list_mut(network, field).retain(|port| !ours(port));
            }
            job::drop_if_empty(network, field);
        }
    }
    if network {
        group["Networks"] = Value::Null;
    }
}
