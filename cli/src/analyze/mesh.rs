//! What the mesh itself needs of a cluster: its webhook, its control plane, and policies that let it work.

use serde_json::Value;
use weft_injector::{INJECT, port};

use super::finding::{
    FAILS_OPEN, Finding, NO_CA_BUNDLE, NO_WEBHOOK, NOT_READY, RESTRICTED, Severity, TUNNEL_CLOSED,
};
use super::objects::{Objects, labels, list, name_of, namespace_of, selects, text};
use super::workloads::Maker;

/// All about the mesh.
pub(super) fn analyze(objects: &Objects, makers: &[Maker<'_>]) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(namespace) = &objects.control {
        found.extend(webhook(objects, namespace));
        found.extend(control_plane(objects, namespace));
    }
    found.extend(policies(objects, makers));
    found.extend(restricted(objects));
    found
}

fn webhook(objects: &Objects, namespace: &str) -> Vec<Finding> {
    let about = "MutatingWebhookConfiguration weft-injector";
    let Some(configuration) = objects.one("MutatingWebhookConfiguration", "", "weft-injector") else {
        let asks =
            |object: &&Value| labels(object, "/metadata/labels").get(INJECT).is_some_and(|v| v == "enabled");
        let Some(asking) = objects.of("Namespace").find(asks) else { return Vec::new() };
        let message =
            format!("it is not there: pods of {} and others with the label get no proxy", name_of(asking));
        let finding = Finding::new(Severity::Error, NO_WEBHOOK, about, message);
        return vec![finding.fix("weft install kubernetes | kubectl apply -f -")];
    };
    let mut found = Vec::new();
    for (i, webhook) in list(configuration, "/webhooks").iter().enumerate() {
        let name = text(webhook, "/name");
        if text(webhook, "/clientConfig/caBundle").is_empty() {
            let message =
                format!("the API server can't trust {name}: no control plane has written its root there yet");
            let finding = Finding::new(Severity::Error, NO_CA_BUNDLE, about, message);
            let finding = finding.at(format!("webhooks[{i}].clientConfig.caBundle"));
            found.push(finding.fix(format!("see why: kubectl logs -n {namespace} deployment/weft-control")));
        }
        if text(webhook, "/failurePolicy") == "Ignore" {
            let message =
                format!("while no control plane answers {name}, new pods start without a proxy and stay so");
            found.push(
                Finding::new(Severity::Info, FAILS_OPEN, about, message)
                    .at(format!("webhooks[{i}].failurePolicy")),
            );
        }
    }
    found
}

fn control_plane(objects: &Objects, namespace: &str) -> Option<Finding> {
    let about = format!("Deployment {namespace}/weft-control");
    let Some(deployment) = objects.one("Deployment", namespace, "weft-control") else {
        let installed = objects.one("MutatingWebhookConfiguration", "", "weft-injector").is_some();
        let message = "it is not there, but its webhook is: pods of labelled namespaces can't be made";
        return installed.then(|| Finding::new(Severity::Error, NOT_READY, about, message));
    };
    let number = |pointer: &str| deployment.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let (wanted, ready) = (number("/spec/replicas"), number("/status/readyReplicas"));
    let severity = if ready == 0 { Severity::Error } else { Severity::Warning };
    let message = format!("{ready} of {wanted} replicas are ready");
    let fix = format!("kubectl describe pods -n {namespace} -l app.kubernetes.io/name=weft-control");
    (ready < wanted)
        .then(|| Finding::new(severity, NOT_READY, about, message).at("status.readyReplicas").fix(fix))
}

/// Policies that keep other proxies out.
fn policies(objects: &Objects, makers: &[Maker<'_>]) -> Vec<Finding> {
    let mut found = Vec::new();
    for maker in makers.iter().filter(|maker| maker.is_member(objects)) {
        let has = labels(maker.pod, "/metadata/labels");
        let of_it = |policy: &&Value| {
            let types = list(policy, "/spec/policyTypes");
            namespace_of(policy) == maker.namespace
                && (types.is_empty() || types.iter().any(|kind| kind == "Ingress"))
                && selects(policy.pointer("/spec/podSelector").unwrap_or(&Value::Null), &has)
        };
        let policies: Vec<&Value> = objects.of("NetworkPolicy").filter(of_it).collect();
        let Some(first) = policies.first() else { continue };
        if policies.iter().any(|policy| list(policy, "/spec/ingress").iter().any(lets_the_tunnel_in)) {
            continue;
        }
        let message = format!(
            "it selects the pods of {}, and no policy of theirs lets port {} in: no other proxy reaches them",
            name_of(maker.object),
            port::TUNNEL
        );
        let fix = format!("an ingress rule with ports: [{{port: {}, protocol: TCP}}]", port::TUNNEL);
        found.push(
            Finding::new(Severity::Warning, TUNNEL_CLOSED, name_of(first), message)
                .at("spec.ingress")
                .fix(fix),
        );
    }
    found
}

/// Whether a rule says so; from whom is not looked at.
fn lets_the_tunnel_in(rule: &Value) -> bool {
    let ports = list(rule, "/ports");
    let is = |one: &Value| {
        let from = one["port"].as_u64();
        let to = one["endPort"].as_u64().or(from);
        let tunnel = u64::from(port::TUNNEL);
        let number = from.is_some_and(|from| from <= tunnel) && to.is_some_and(|to| tunnel <= to);
        let any = one.get("port").is_none();
        ["", "TCP"].contains(&text(one, "/protocol")) && (any || number || one["port"] == "weft-tunnel")
    };
    ports.is_empty() || ports.iter().any(is)
}

/// Namespaces that refuse the init container which captures.
fn restricted(objects: &Objects) -> Vec<Finding> {
    if objects.settings.cni || !objects.settings.capture {
        return Vec::new();
    }
    let refuses = |object: &&Value| {
        let labels = labels(object, "/metadata/labels");
        let level = labels.get("pod-security.kubernetes.io/enforce").map(String::as_str);
        // Baseline refuses NET_ADMIN as well.
        matches!(level, Some("restricted" | "baseline"))
            && labels.get(INJECT).is_some_and(|value| value == "enabled")
    };
    objects
        .of("Namespace")
        .filter(refuses)
        .map(|object| {
            let message = "its Pod Security level refuses the init container that captures (NET_ADMIN): its pods can't be made";
            let at = "metadata.labels[pod-security.kubernetes.io/enforce]";
            let finding = Finding::new(Severity::Warning, RESTRICTED, name_of(object), message).at(at);
            finding.fix("the CNI plugin: weft install kubernetes --cni | kubectl apply -f -")
        })
        .collect()
}
