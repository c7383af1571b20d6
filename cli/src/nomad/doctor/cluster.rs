//! The cluster: its version, one's rights by name, what the nodes can run, its keys, and whether the control plane reads it.

use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use weft_control_api::{RegistryState, Status, path};
use weft_model::RegistryKind;
use weft_registry::RegistryErrorKind;
use weft_registry_nomad::{NomadClient, NomadError};

use super::Finding;
use crate::control::Control;

/// What is known of a node.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Node {
    #[serde(rename = "ID")]
    id: String,
    pub(super) name: String,
    status: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    drivers: Option<BTreeMap<String, Driver>>,
    /// Of its CNI plugins, those that are there; `None` where it was not asked.
    #[serde(skip)]
    plugins: Option<Vec<String>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Driver {
    healthy: bool,
}

impl Node {
    /// Whether it runs tasks of this driver.
    pub(super) fn has_driver(&self, driver: &str) -> bool {
        self.drivers.as_ref().and_then(|drivers| drivers.get(driver)).is_some_and(|driver| driver.healthy)
    }

    /// Which of the CNI plugins that a bridge needs it lacks.
    pub(super) fn missing_plugins(&self) -> Vec<&'static str> {
        let Some(plugins) = &self.plugins else { return Vec::new() };
        PLUGINS.into_iter().filter(|plugin| !plugins.iter().any(|one| one == plugin)).collect()
    }
}

/// What is found, and the nodes that are ready.
pub(super) async fn findings(
    nomad: &NomadClient,
    namespace: &str,
    control: &Control,
) -> (Vec<Finding>, Vec<Node>) {
    let leader = nomad.get::<String>("Nomad's leader", &["v1", "status", "leader"], &[], None).await;
    match leader {
        Ok(answer) if answer.value.is_empty() => {
            return (vec![Finding::bad("Nomad has no leader", "look at nomad server members")], Vec::new());
        }
        Ok(_) => {}
        Err(error) => {
            let fix = "give its address by --address or NOMAD_ADDR, and its certificates as nomad has them";
            return (vec![Finding::bad(format!("Nomad does not answer: {error}"), fix)], Vec::new());
        }
    }
    let mut findings = vec![Finding::good("Nomad answers and has a leader")];
    findings.extend(rights(nomad, namespace).await);
    findings.push(keys(nomad).await);
    let nodes = nodes(nomad, &mut findings).await;
    findings.push(read_by(control).await);
    (findings, nodes)
}

/// One's own rights; what the control plane may do shows in its registry's state.
async fn rights(nomad: &NomadClient, namespace: &str) -> Vec<Finding> {
    let query = [("namespace", namespace)];
    let list = async |what: &str, path: &[&str]| nomad.get::<Value>(what, path, &query, None).await.err();
    let read = list("services", &["v1", "services"]).await;
    let nodes = list("nodes", &["v1", "nodes"]).await;
    let hcl = json!({"JobHCL": "job \"doctor\" {}", "Canonicalize": false});
    let parse = nomad.post::<Value>("parsing", &["v1", "jobs", "parse"], &query, &hcl).await.err();
    let capability = |name: &str| format!("namespace {namespace:?} {{ capabilities = [{name:?}] }}");
    [
        ("to read services, jobs and allocations", read, capability("read-job")),
        ("to read nodes", nodes, "node { policy = \"read\" }".to_owned()),
        ("to have job files read", parse, capability("parse-job")),
    ]
    .into_iter()
    .map(|(what, error, policy)| match error.filter(denied) {
        None => Finding::good(format!("the token has the right {what}")),
        Some(_) => Finding::bad(
            format!("the token has no right {what}"),
            format!("add to its policy: {policy} (nomad-jobs/policies/submit.policy.hcl has all)"),
        ),
    })
    .collect()
}

fn denied(error: &NomadError) -> bool {
    error.kind == RegistryErrorKind::PermissionDenied
}

/// The keys by which workload identities are verified.
async fn keys(nomad: &NomadClient) -> Finding {
    #[derive(Deserialize)]
    struct Keys {
        keys: Vec<Value>,
    }
    match nomad.get::<Keys>("the signing keys", &[".well-known", "jwks.json"], &[], None).await {
        Ok(answer) if !answer.value.keys.is_empty() => {
            Finding::good("Nomad publishes the keys of its workload identities")
        }
        Ok(_) => Finding::bad(
            "Nomad publishes no signing key",
            "nomad operator root keyring list; its leader makes one",
        ),
        Err(error) => Finding::bad(
            format!("the keys of workload identities can't be read: {error}"),
            "/.well-known/jwks.json is there from Nomad 1.7 on; whatever stands before Nomad has to let it through",
        ),
    }
}

async fn nodes(nomad: &NomadClient, findings: &mut Vec<Finding>) -> Vec<Node> {
    let Ok(answer) = nomad.get::<Vec<Node>>("nodes", &["v1", "nodes"], &[], None).await else {
        return Vec::new();
    };
    let mut ready: Vec<Node> = answer.value.into_iter().filter(|node| node.status == "ready").collect();
    if ready.is_empty() {
        findings.push(Finding::bad("no node is ready", "nomad node status says what they are"));
    }
    for node in ready.iter_mut().take(MOST_NODES) {
        node.plugins = plugins(nomad, &node.id).await;
        findings.push(of_node(node));
    }
    if ready.len() > MOST_NODES {
        let rest = format!("{} more nodes were not looked at one by one", ready.len() - MOST_NODES);
        findings.push(Finding::warning(rest, "name a job: its plan looks at all"));
    }
    ready
}

/// The CNI plugins of a node, which its attributes tell.
async fn plugins(nomad: &NomadClient, id: &str) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Attributes {
        attributes: BTreeMap<String, String>,
    }
    let answer = nomad.get::<Attributes>("a node", &["v1", "node", id], &[], None).await.ok()?;
    let version = |key: &String| key.strip_prefix("plugins.cni.version.").map(str::to_owned);
    Some(answer.value.attributes.keys().filter_map(version).collect())
}

fn of_node(node: &Node) -> Finding {
    let drivers: Vec<&str> = DRIVERS.into_iter().filter(|driver| node.has_driver(driver)).collect();
    let what = format!("node {} (Nomad {})", node.name, node.version);
    if !at_least(&node.version, OLDEST) {
        let fix = "Nomad 1.7 or later: before it tasks have no identities that others can verify";
        return Finding::bad(format!("{what} is too old"), fix);
    }
    if drivers.is_empty() {
        let fix = "enable one in its configuration: plugin \"raw_exec\" { config { enabled = true } }";
        return Finding::bad(format!("{what} has none of the drivers {}", DRIVERS.join(", ")), fix);
    }
    let missing = node.missing_plugins();
    if !missing.is_empty() {
        return Finding::warning(
            format!("{what} lacks the CNI plugins {}: no group of it can be captured", missing.join(", ")),
            "install containernetworking-plugins, and set client { cni_path } to where they are",
        );
    }
    Finding::good(format!("{what} runs {}, and has the CNI plugins", drivers.join(", ")))
}

/// Whether the version is this one or later. What can't be read is taken for new.
fn at_least(version: &str, (major, minor): (u32, u32)) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(its_major), Some(its_minor)) => (its_major, its_minor) >= (major, minor),
        _ => true,
    }
}

/// Whether the control plane has a Nomad, and reads it.
async fn read_by(control: &Control) -> Finding {
    let status: Status = match control.get(path::STATUS).await {
        Ok(status) => status,
        Err(error) => {
            return Finding::warning(
                format!("the control plane was not asked: {error}"),
                "run this where its admin socket is, or say by --control where it is",
            );
        }
    };
    let nomads: Vec<_> =
        status.registries.iter().filter(|one| one.id.kind() == RegistryKind::Nomad).collect();
    let Some(worst) = nomads.iter().find(|one| one.state != RegistryState::Synced).or(nomads.first()) else {
        return Finding::bad(
            "the control plane reads no Nomad",
            "add [[registry]] id = \"nomad/NAME\" to its settings, and [ca.nomad.\"nomad/NAME\"]",
        );
    };
    match (worst.state, &worst.last_error) {
        (RegistryState::Synced, _) => Finding::good(format!("the control plane reads {}", worst.id)),
        (state, error) => Finding::bad(
            format!(
                "the control plane's {} is {}: {}",
                worst.id,
                state.as_str(),
                error.as_ref().map_or("no reason is known", |error| error.message.as_str())
            ),
            "its token needs what nomad-jobs/policies/registry.policy.hcl says",
        ),
    }
}

/// What can run a sidecar.
const DRIVERS: [&str; 4] = ["raw_exec", "exec", "docker", "podman"];
/// What Nomad's bridge is made of.
const PLUGINS: [&str; 4] = ["bridge", "firewall", "loopback", "portmap"];
const OLDEST: (u32, u32) = (1, 7);
/// Each costs a request.
const MOST_NODES: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    fn node(version: &str, driver: &str, plugins: &[&str]) -> Node {
        let node = json!({"ID": "n", "Name": "n1", "Status": "ready", "Version": version, "Drivers": {driver: {"Healthy": true}}});
        let mut node: Node = serde_json::from_value(node).unwrap();
        node.plugins = Some(plugins.iter().map(|plugin| (*plugin).to_owned()).collect());
        node
    }

    #[test]
    fn a_node_is_judged_by_version_drivers_and_plugins() {
        assert_eq!(of_node(&node("1.10.0", "exec", &PLUGINS)).fix, None);
        assert!(of_node(&node("1.6.2", "exec", &PLUGINS)).what.contains("too old"));
        assert!(of_node(&node("2.0.0", "qemu", &PLUGINS)).what.contains("none of the drivers"));
        let lacking = of_node(&node("1.7.0-dev", "docker", &["bridge", "loopback"]));
        assert!(lacking.what.contains("firewall, portmap"), "{lacking:?}");
    }
}
