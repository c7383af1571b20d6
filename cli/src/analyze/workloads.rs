//! Pods, and what makes them: who gets a proxy and who does not, what is refused, and whose proxy is not what it would be
//! now. All decisions are the injector's.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use weft_injector::{INJECT, InjectorSettings, NamespaceView, Outcome, PROXY, STATUS, Skip, drift, inject};
use weft_model::{KeySyntax, Metadata, Namespace, TrustDomain};

use super::finding::{
    DEFAULT_ACCOUNT, DOUBTFUL, DRIFTED, Finding, LEFT_ALONE, NO_IDENTITY, NO_PROXY, NO_UPSTREAM, NOT_ASKED,
    REFUSED, SHARED_ACCOUNT, Severity,
};
use super::objects::{Objects, labels, list, name_of, namespace_of, template, text};

/// What makes pods, or is one by itself, with the pod or the template of one in it.
pub(super) struct Maker<'a> {
    pub(super) object: &'a Value,
    pub(super) pod: &'a Value,
    pub(super) namespace: &'a str,
    /// As the injector sees its namespace.
    labels: BTreeMap<String, String>,
}

impl Maker<'_> {
    fn view(&self) -> NamespaceView<'_> {
        NamespaceView { name: self.namespace, labels: &self.labels }
    }

    /// Where in the object the pod's own fields begin.
    fn prefix(&self) -> &'static str {
        match text(self.object, "/kind") {
            "Pod" => "",
            "CronJob" => "spec.jobTemplate.spec.template.",
            _ => "spec.template.",
        }
    }

    fn metadata(&self) -> Metadata {
        metadata(self.pod, self.namespace)
    }

    /// Whether its pods are to have proxies.
    pub(super) fn is_member(&self, objects: &Objects) -> bool {
        let outcome = inject(self.pod, &self.view(), &objects.settings);
        matches!(outcome, Ok(Outcome::Injected(_) | Outcome::Skipped(Skip::AlreadyInjected)))
    }
}

/// Everything that makes pods and is made by nobody else.
pub(super) fn makers(objects: &Objects) -> Vec<Maker<'_>> {
    let kinds = ["Deployment", "StatefulSet", "DaemonSet", "CronJob", "Job", "ReplicaSet", "Pod"];
    let all = kinds.into_iter().flat_map(|kind| objects.of(kind));
    all.filter(|object| {
        !list(object, "/metadata/ownerReferences").iter().any(|owner| owner["controller"] == true)
    })
    .filter(|object| !left_out(objects, namespace_of(object)))
    .filter_map(|object| {
        let pod = if text(object, "/kind") == "Pod" { object } else { template(object)? };
        let namespace = namespace_of(object);
        Some(Maker { object, pod, namespace, labels: objects.labels(namespace) })
    })
    .collect()
}

/// Namespaces that the webhook never asks about.
fn left_out(objects: &Objects, namespace: &str) -> bool {
    ["kube-system", "kube-public", "kube-node-lease"].contains(&namespace)
        || objects.control.as_deref() == Some(namespace)
}

/// All about pods.
pub(super) fn analyze(objects: &Objects, makers: &[Maker<'_>]) -> Vec<Finding> {
    let mut found = Vec::new();
    for maker in makers {
        found.extend(made(objects, maker));
        found.extend(upstreams(objects, maker));
    }
    found.extend(running(objects));
    found.extend(accounts(objects, makers));
    found
}

/// What becomes of a pod that is made now.
fn made(objects: &Objects, maker: &Maker<'_>) -> Vec<Finding> {
    let about = name_of(maker.object);
    let here = |severity, code, message: String| {
        Finding::new(severity, code, &about, message).at(format!("{}metadata", maker.prefix()))
    };
    // That no root is known is this command's matter, and no warning.
    let settings = InjectorSettings { root_sha256: vec!["0".repeat(64)], ..objects.settings.clone() };
    match inject(maker.pod, &maker.view(), &settings) {
        Err(refused) => refused
            .problems
            .into_iter()
            .map(|problem| {
                here(Severity::Error, REFUSED, problem).fix("its pods are refused until this is put right")
            })
            .collect(),
        Ok(Outcome::Injected(injection)) => {
            injection.warnings.into_iter().map(|text| here(Severity::Warning, DOUBTFUL, text)).collect()
        }
        Ok(Outcome::Skipped(Skip::NotAsked)) => {
            let ours = annotations_of_ours(maker.pod);
            let fix = format!(
                "kubectl label namespace {} {INJECT}=enabled, or the pods: {INJECT}: \"true\"",
                maker.namespace
            );
            let message = || format!("it has {}, and gets no proxy: {}", ours.join(", "), Skip::NotAsked);
            (!ours.is_empty())
                .then(|| here(Severity::Warning, NOT_ASKED, message()).fix(fix))
                .into_iter()
                .collect()
        }
        Ok(Outcome::Skipped(Skip::AlreadyInjected)) => Vec::new(),
        Ok(Outcome::Skipped(skip)) => {
            let severity = if skip.is_surprise() { Severity::Warning } else { Severity::Info };
            vec![here(severity, LEFT_ALONE, format!("it gets no proxy: {skip}"))]
        }
    }
}

/// Keys of ours but those that injection itself writes.
fn annotations_of_ours(pod: &Value) -> Vec<String> {
    let ours = |key: &String| KeySyntax::Slash.key_of(key).is_some() && key != STATUS && key != INJECT;
    labels(pod, "/metadata/annotations").into_keys().filter(ours).collect()
}

fn metadata(pod: &Value, namespace: &str) -> Metadata {
    let annotations = labels(pod, "/metadata/annotations");
    let pairs = annotations.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let own = namespace.parse().unwrap_or_else(|_| Namespace::default_namespace());
    let domain: TrustDomain = "cluster.local".parse().expect("it is a trust domain");
    Metadata::parse(KeySyntax::Slash, pairs, &domain, &own).0
}

fn upstreams(objects: &Objects, maker: &Maker<'_>) -> Vec<Finding> {
    if objects.partial || !maker.is_member(objects) {
        return Vec::new();
    }
    let metadata = maker.metadata();
    let missing = metadata.proxy().upstreams.iter().filter_map(|upstream| {
        let namespace = upstream.namespace.as_ref().map_or(maker.namespace, Namespace::as_str);
        if objects.one("Service", namespace, upstream.service.as_str()).is_some() {
            return None;
        }
        let wanted = format!("{namespace}/{}", upstream.service);
        let (severity, message) = match objects.alone {
            true => (
                Severity::Warning,
                format!("the upstream {wanted} is no Service, and the mesh has no other registry"),
            ),
            false => (
                Severity::Info,
                format!("the upstream {wanted} is no Service of this cluster: another registry must have it"),
            ),
        };
        let at = format!("{}metadata.annotations[weft.dev/upstreams]", maker.prefix());
        Some(Finding::new(severity, NO_UPSTREAM, name_of(maker.object), message).at(at))
    });
    missing.collect()
}

/// Pods that are there: without a proxy though they would get one now, or with another.
fn running(objects: &Objects) -> Vec<Finding> {
    let mut without: BTreeMap<String, (usize, &Value)> = BTreeMap::new();
    let mut drifted: BTreeMap<String, (usize, &Value, Vec<String>)> = BTreeMap::new();
    let lives = |pod: &&Value| {
        !["Succeeded", "Failed"].contains(&text(pod, "/status/phase"))
            && pod.pointer("/metadata/deletionTimestamp").is_none()
            && !left_out(objects, namespace_of(pod))
    };
    for pod in objects.of("Pod").filter(lives) {
        let (namespace, top) = (namespace_of(pod), objects.top(pod));
        let labels = objects.labels(namespace);
        let view = NamespaceView { name: namespace, labels: &labels };
        // What is not here yet has no pods, and a pod in a file is not running.
        if pod.get("status").is_none() {
            continue;
        }
        if !has_proxy(pod) {
            if let Ok(Outcome::Injected(_)) = inject(pod, &view, &objects.settings) {
                without.entry(name_of(top)).or_insert((0, top)).0 += 1;
            }
            continue;
        }
        let Some(made_from) = objects.owner(pod).and_then(template) else { continue };
        match drift(made_from, pod, &view, &objects.settings) {
            Ok(differences) if !differences.is_empty() => {
                drifted.entry(name_of(top)).or_insert((0, top, differences)).0 += 1;
            }
            _ => {}
        }
    }
    let missing = without.into_iter().map(|(about, (count, top))| {
        let message = format!("{} no proxy: made before the namespace asked for one", pods(count));
        Finding::new(Severity::Warning, NO_PROXY, about, message).fix(restart(top))
    });
    let other = drifted.into_iter().map(|(about, (count, top, differences))| {
        let message =
            format!("{} a proxy that is not what it would be now: {}", pods(count), shortened(&differences));
        Finding::new(Severity::Warning, DRIFTED, about, message).fix(restart(top))
    });
    missing.chain(other).collect()
}

fn pods(count: usize) -> String {
    if count == 1 { "1 pod has".to_owned() } else { format!("{count} pods have") }
}

/// The first few.
fn shortened(differences: &[String]) -> String {
    let shown = differences.get(..MOST_DIFFERENCES).unwrap_or(differences);
    let rest = differences.len() - shown.len();
    let more = if rest > 0 { format!("; and {rest} more") } else { String::new() };
    format!("{}{more}", shown.join("; "))
}

/// More of them nobody reads.
const MOST_DIFFERENCES: usize = 4;

fn restart(top: &Value) -> String {
    let (kind, name, namespace) =
        (text(top, "/kind").to_lowercase(), text(top, "/metadata/name"), namespace_of(top));
    match kind.as_str() {
        "deployment" | "statefulset" | "daemonset" => {
            format!("kubectl rollout restart -n {namespace} {kind}/{name}")
        }
        _ => format!("delete {kind} {namespace}/{name} and make it anew"),
    }
}

fn has_proxy(pod: &Value) -> bool {
    let all = list(pod, "/spec/initContainers").iter().chain(list(pod, "/spec/containers"));
    all.into_iter().any(|container| container["name"] == PROXY)
}

/// Identities: who shares one.
fn accounts(objects: &Objects, makers: &[Maker<'_>]) -> Vec<Finding> {
    let mut by_account: BTreeMap<(&str, &str), BTreeSet<String>> = BTreeMap::new();
    for maker in makers.iter().filter(|maker| maker.is_member(objects)) {
        let account = match text(maker.pod, "/spec/serviceAccountName") {
            "" => "default",
            named => named,
        };
        by_account.entry((maker.namespace, account)).or_default().insert(name_of(maker.object));
    }
    by_account
        .into_iter()
        .filter_map(|((namespace, account), users)| shared(namespace, account, &users))
        .collect()
}

fn shared(namespace: &str, account: &str, users: &BTreeSet<String>) -> Option<Finding> {
    let about = format!("ServiceAccount {namespace}/{account}");
    let names = users.iter().cloned().collect::<Vec<_>>().join(", ");
    let id = format!("spiffe://cluster.local/ns/{namespace}/sa/{account}");
    if let Err(invalid) = id.parse::<weft_model::SpiffeId>() {
        let message = format!("it can be no identity ({invalid}): pods of {names} get no certificate");
        return Some(Finding::new(Severity::Error, NO_IDENTITY, about, message).fix("give it another name"));
    }
    if account == "default" {
        let message =
            format!("it is the identity of {names}: all pods that name no account have the same one");
        let fix = "a service account for each, as spec.serviceAccountName of its pods";
        return Some(Finding::new(Severity::Warning, DEFAULT_ACCOUNT, about, message).fix(fix));
    }
    let message = format!("it is the identity of {}: {names}; nobody can tell them apart", users.len());
    (users.len() > 1).then(|| Finding::new(Severity::Info, SHARED_ACCOUNT, about, message))
}

/// The ports at which a pod is not captured.
pub(super) fn skipped_ports(objects: &Objects, maker: &Maker<'_>) -> BTreeSet<u16> {
    let own = maker.metadata().proxy().skip_inbound_ports.clone();
    own.union(&objects.settings.skip_inbound_ports).copied().collect()
}
