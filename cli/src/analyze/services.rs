//! Services: what the registry makes of each, and whether what they lead to is there.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use weft_model::Protocol;
use weft_registry_kubernetes::{ServiceReading, read_service};

use super::finding::{
    DETECTED, Finding, NO_SELECTOR, NO_TARGET, NOT_CAPTURED, SERVICE, Severity, TWO_PROTOCOLS,
};
use super::objects::{Objects, labels, list, name_of, namespace_of, text};
use super::workloads::{Maker, skipped_ports};

/// Who says what of a port of pods.
type Claims = BTreeMap<(String, String), BTreeMap<Protocol, String>>;

/// All about Services.
pub(super) fn analyze(objects: &Objects, makers: &[Maker<'_>]) -> Vec<Finding> {
    let (mut found, mut claims) = (Vec::new(), Claims::new());
    // Who has no proxy is nobody's concern here: Services without members are left in peace.
    let members: Vec<&Maker<'_>> = makers.iter().filter(|maker| maker.is_member(objects)).collect();
    for object in objects.of("Service") {
        let about = name_of(object);
        let selected = selected(object, &members);
        let (reading, ours) = match read_service(object) {
            Ok(reading) => (reading, is_ours(object) || !selected.is_empty()),
            Err(reason) => {
                found.push(Finding::new(Severity::Error, SERVICE, &about, reason));
                continue;
            }
        };
        if !ours && text(object, "/spec/type") != "ExternalName" {
            continue;
        }
        found.extend(reading.problems.iter().map(|problem| {
            let severity = match problem.severity {
                weft_model::Severity::Error => Severity::Error,
                weft_model::Severity::Warning => Severity::Warning,
            };
            let external = text(object, "/spec/type") == "ExternalName";
            let severity = if external { Severity::Info } else { severity };
            Finding::new(severity, SERVICE, &about, &problem.message)
                .at(problem.field.clone().unwrap_or_default())
        }));
        found.extend(without_selector(object, &about));
        found.extend(ports(objects, object, &reading, &selected, &mut claims));
    }
    found.extend(contradictions(&claims));
    found
}

/// Whether somebody wrote something of ours on it.
fn is_ours(object: &Value) -> bool {
    labels(object, "/metadata/annotations")
        .keys()
        .any(|key| weft_model::KeySyntax::Slash.key_of(key).is_some())
}

fn selected<'a>(service: &Value, members: &[&'a Maker<'a>]) -> Vec<&'a Maker<'a>> {
    let selector = labels(service, "/spec/selector");
    let matches = |maker: &&&Maker<'_>| {
        let has = labels(maker.pod, "/metadata/labels");
        maker.namespace == namespace_of(service)
            && !selector.is_empty()
            && selector.iter().all(|(key, value)| has.get(key) == Some(value))
    };
    members.iter().filter(matches).copied().collect()
}

fn without_selector(object: &Value, about: &str) -> Option<Finding> {
    let headless = text(object, "/spec/clusterIP") == "None";
    let empty = labels(object, "/spec/selector").is_empty();
    let message = "it is headless and selects no pods: its endpoints are written by hand, and have neither identity nor proxy";
    (headless && empty).then(|| Finding::new(Severity::Info, NO_SELECTOR, about, message).at("spec.selector"))
}

/// A TCP port of a Service.
struct Port<'a> {
    /// The Service's name, for people.
    about: &'a str,
    /// Where it is in it.
    at: String,
    number: u64,
    protocol: Protocol,
    target: Value,
}

fn ports(
    objects: &Objects,
    object: &Value,
    reading: &ServiceReading,
    selected: &[&Maker<'_>],
    claims: &mut Claims,
) -> Vec<Finding> {
    let (mut found, about) = (Vec::new(), name_of(object));
    let all = list(object, "/spec/ports").iter().enumerate();
    for (i, port) in all.filter(|(_, port)| ["", "TCP"].contains(&text(port, "/protocol"))) {
        let number = port["port"].as_u64().unwrap_or_default();
        let mut read = reading.service.iter().flat_map(|service| &service.ports);
        let read = read.find(|read| u64::from(read.number) == number);
        let protocol = read.map_or(Protocol::Detect, |read| read.protocol);
        let target = port.get("targetPort").unwrap_or(&port["port"]).clone();
        let port = Port { about: &about, at: format!("spec.ports[{i}]"), number, protocol, target };
        if protocol == Protocol::Detect && !selected.is_empty() {
            let message = format!(
                "nothing says which protocol port {number} has: it is found out by the first bytes of each connection"
            );
            let fix = "appProtocol, a name such as http-web, or the annotation weft.dev/protocol";
            found.push(Finding::new(Severity::Info, DETECTED, &about, message).at(&port.at).fix(fix));
        }
        for maker in selected {
            found.extend(leads_to(objects, &port, maker, claims));
        }
    }
    found
}

/// What is odd about the way from a port to the pods of one maker.
fn leads_to(objects: &Objects, port: &Port<'_>, maker: &Maker<'_>, claims: &mut Claims) -> Vec<Finding> {
    let Port { about, at, number, protocol, target } = port;
    let (declared, pods) = (declared(maker.pod), name_of(maker.object));
    let at_target = format!("{at}.targetPort");
    let reached = match target {
        Value::String(name) => declared.iter().find(|(own, _)| own == name).map(|(_, number)| *number),
        number => number.as_u64(),
    };
    let Some(reached) = reached else {
        let message = format!(
            "port {number} leads to the port {target} of the pods of {pods}, which have none of that name"
        );
        let fix = "name the containers' port so, or give targetPort a number";
        return vec![Finding::new(Severity::Warning, NO_TARGET, about, message).at(at_target).fix(fix)];
    };
    let mut found = Vec::new();
    if !declared.is_empty() && !declared.iter().any(|(_, own)| *own == reached) {
        let message = format!("port {number} leads to {reached}, which no container of {pods} declares");
        found.push(Finding::new(Severity::Info, NO_TARGET, about, message).at(at_target));
    }
    let skipped = skipped_ports(objects, maker);
    if u16::try_from(reached).is_ok_and(|reached| skipped.contains(&reached)) {
        let message = format!(
            "port {number} leads to {reached} of {pods}, where nothing is captured: plaintext is let in there whatever the mesh says"
        );
        let fix = "take it out of weft.dev/skip-inbound-ports, unless that is meant";
        found.push(Finding::new(Severity::Warning, NOT_CAPTURED, about, message).at(at).fix(fix));
    }
    if *protocol != Protocol::Detect {
        let said = claims.entry((pods, reached.to_string())).or_default();
        said.entry(*protocol).or_insert_with(|| (*about).to_owned());
    }
    found
}

/// Names and numbers of the ports that containers declare.
fn declared(pod: &Value) -> BTreeSet<(String, u64)> {
    let containers = list(pod, "/spec/containers").iter().chain(list(pod, "/spec/initContainers"));
    let ports = containers.flat_map(|container| list(container, "/ports"));
    ports.filter_map(|port| Some((text(port, "/name").to_owned(), port["containerPort"].as_u64()?))).collect()
}

fn contradictions(claims: &Claims) -> Vec<Finding> {
    let several = claims.iter().filter(|(_, said)| said.len() > 1);
    several
        .map(|((pods, port), said)| {
            let words: Vec<String> =
                said.iter().map(|(protocol, who)| format!("{} in {who}", protocol.as_str())).collect();
            let message = format!("its port {port} has several protocols: {}", words.join(", "));
            Finding::new(Severity::Warning, TWO_PROTOCOLS, pods, message)
                .fix("say the same in all Services that select these pods")
        })
        .collect()
}
