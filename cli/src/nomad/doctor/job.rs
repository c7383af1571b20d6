//! A job: whether it can be injected, whether any node can run what that adds, and what Nomad's planner says of it.

use std::path::Path;

use serde_json::{Value, json};
use weft_nomad_injector::{REDIRECT_TASK, SIDECAR_TASK};
use weft_registry_nomad::NomadClient;

use super::Finding;
use super::cluster::Node;
use crate::control::Control;
use crate::nomad::{injected, plan};

/// What is found.
pub(super) async fn findings(
    file: &Path,
    given: &injected::Given,
    nomad: &NomadClient,
    namespace: &str,
    control: &Control,
    nodes: &[Node],
) -> Vec<Finding> {
    let injection = match injected::read(file, given, nomad, namespace, control).await {
        Ok(injection) => injection,
        Err(error) => {
            return vec![Finding::bad(format!("the job can't be injected: {error:#}"), "see what it says")];
        }
    };
    let mut findings: Vec<Finding> =
        injection.warnings.iter().map(|warning| Finding::warning(warning, "see what it says")).collect();
    findings.push(Finding::good(format!("sidecars can be added to {}", injection.groups.join(", "))));
    for group in injection.job["TaskGroups"].as_array().into_iter().flatten() {
        findings.extend(of_group(group, nodes));
    }
    findings.push(placed(&injection.job, nomad, namespace).await);
    findings
}

fn of_group(group: &Value, nodes: &[Node]) -> Vec<Finding> {
    let name = group["Name"].as_str().unwrap_or_default();
    let tasks = || group["Tasks"].as_array().into_iter().flatten();
    let Some(sidecar) = tasks().find(|task| task["Name"] == SIDECAR_TASK) else { return Vec::new() };
    let driver = sidecar["Driver"].as_str().unwrap_or_default();
    let captured = tasks().any(|task| task["Name"] == REDIRECT_TASK);
    let able = nodes.iter().filter(|node| node.has_driver(driver)).count();
    let mut findings = Vec::new();
    if able == 0 {
        findings.push(Finding::bad(
            format!("group {name:?}: no node runs {driver:?}, which its sidecar needs"),
            "enable the driver on the nodes, or say another by --set driver=NAME",
        ));
    }
    let bridged =
        nodes.iter().filter(|node| node.has_driver(driver) && node.missing_plugins().is_empty()).count();
    if captured && able > 0 && bridged == 0 {
        findings.push(Finding::bad(
            format!("group {name:?}: no node with {driver:?} has the CNI plugins that its network needs"),
            "install containernetworking-plugins on the nodes, or leave the capture out (weft.dev/capture = \"false\", mode = \"host\")",
        ));
    }
    if captured && matches!(driver, "docker" | "exec") {
        findings.push(Finding::warning(
            format!("group {name:?}: {REDIRECT_TASK} needs the capability net_admin"),
            format!(
                "allow it on the nodes: plugin {driver:?} {{ config {{ allow_caps = [\"net_admin\", …] }} }}"
            ),
        ));
    }
    findings
}

/// Whether Nomad's planner places it.
async fn placed(job: &Value, nomad: &NomadClient, namespace: &str) -> Finding {
    let id = job["ID"].as_str().unwrap_or_default();
    let body = json!({"Job": job, "Diff": false});
    let query = [("namespace", namespace)];
    match nomad.post::<Value>("planning the job", &["v1", "job", id, "plan"], &query, &body).await {
        Err(error) => Finding::bad(format!("Nomad refuses the job: {error}"), "see what it says"),
        Ok(answer) => match plan::failures(&answer).as_slice() {
            [] => Finding::good("Nomad has a place for every group"),
            failures => {
                Finding::bad(failures.join("; "), "give the nodes what they lack, or the job less to ask for")
            }
        },
    }
}
