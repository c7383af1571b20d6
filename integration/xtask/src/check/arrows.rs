//! The arrows between crates: what may depend on what, held against `cargo metadata`.
//!
//! Decided here and nowhere else: the order of the crates. A crate depends only on crates above it; nothing depends on a binary's
//! crate; pure crates stay pure; the data plane never sees a registry.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{cache, process};

/// Every crate of ours, from the top of the flow down.
const ORDER: &[&str] = &[
    "weft-model",
    "weft-redirect",
    "weft-injector",
    "weft-process",
    "weft-proto",
    "native-tls",
    "weft-registry",
    "weft-registry-consul",
    "weft-registry-kubernetes",
    "weft-registry-nomad",
    "weft-xds",
    "weft-identity",
    "weft-ca",
    "weft-control-api",
    "weft-control",
    "weft-xds-client",
    "weft-http",
    "weft-dns",
    "weft-proxy",
    "weft-cni",
    "weft-nomad-injector",
    "weft",
    "weft-simulation",
    "weft-image",
    "weft-cluster",
    "weft-integration",
    "weft-bench",
    "weft-xtask",
];

/// Crates that are programs: nothing may depend on them.
const PROGRAMS: &[&str] = &["weft-control", "weft-proxy", "weft-cni", "weft", "weft-bench", "weft-xtask"];

/// What must not be among the direct dependencies of a crate that does no IO.
const NO_DIRECT: &[(&str, &[&str])] = &[
    ("weft-model", &["tokio", "tonic", "prost", "kube", "hyper", "reqwest", "rustls"]),
    ("weft-xds", &["tokio", "tonic", "kube", "hyper", "reqwest", "rustls"]),
    ("weft-http", &["tokio", "tonic", "hyper", "reqwest", "rustls"]),
    ("weft-dns", &["tokio", "tonic", "hyper", "reqwest", "rustls"]),
];

/// What must not be reachable from a crate at all.
const NO_PATH: &[(&str, &[&str])] = &[
    ("weft-model", &["tokio", "tonic", "prost", "kube"]),
    (
        "weft-proxy",
        &[
            "kube",
            "consulrs",
            "weft-xds",
            "weft-control",
            "weft-registry",
            "weft-registry-consul",
            "weft-registry-kubernetes",
            "weft-registry-nomad",
        ],
    ),
    // To Kubernetes it goes as the registry does (`weft analyze`, `weft demo --kubernetes`); to Consul by its HTTP API.
    ("weft", &["consulrs", "weft-registry-consul"]),
    ("weft-injector", &["tokio", "kube", "k8s-openapi"]),
    ("weft-xds-client", &["kube", "consulrs", "weft-registry"]),
];

/// Who alone may depend on these directly.
const ONLY_IN: &[(&str, &str)] = &[("consulrs", "weft-registry-consul"), ("rustify", "weft-registry-consul")];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
    workspace_members: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    /// `None` is a normal dependency; `dev` and `build` are the others.
    kind: Option<String>,
}

/// Normal dependencies by package name. Two versions of one package count as one.
struct Graph {
    ours: BTreeSet<String>,
    edges: BTreeMap<String, BTreeSet<String>>,
}

/// Fails with every arrow that is not allowed.
pub(super) fn check() -> Result<()> {
    let mut command = Command::new("cargo");
    command
        .args(["metadata", "--format-version=1", "--all-features", "--locked"])
        .current_dir(cache::checkout());
    let metadata: Metadata =
        serde_json::from_str(&process::quiet(&mut command)?).context("reading cargo metadata")?;
    let wrong = violations(&graph(&metadata));
    if !wrong.is_empty() {
        bail!("{}", wrong.join("; "));
    }
    Ok(())
}

fn graph(metadata: &Metadata) -> Graph {
    let names: BTreeMap<&str, &str> =
        metadata.packages.iter().map(|p| (p.id.as_str(), p.name.as_str())).collect();
    let name = |id: &str| names.get(id).copied().unwrap_or(id).to_owned();
    let ours = metadata.workspace_members.iter().map(|id| name(id)).collect();
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in &metadata.resolve.nodes {
        let normal = node.deps.iter().filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind.is_none()));
        edges.entry(name(&node.id)).or_default().extend(normal.map(|dep| name(&dep.pkg)));
    }
    Graph { ours, edges }
}

fn violations(graph: &Graph) -> Vec<String> {
    let place = |name: &str| ORDER.iter().position(|known| *known == name);
    let empty = BTreeSet::new();
    let direct = |name: &str| graph.edges.get(name).unwrap_or(&empty);
    let mut wrong = Vec::new();
    for name in &graph.ours {
        let Some(own) = place(name) else {
            wrong.push(format!("{name} has no place in the order of crates"));
            continue;
        };
        for other in direct(name).iter().filter(|other| graph.ours.contains(*other)) {
            if place(other).is_none_or(|other| other >= own) {
                wrong.push(format!("{name} -> {other} points down"));
            }
            if PROGRAMS.contains(&other.as_str()) {
                wrong.push(format!("{name} -> {other}: nothing depends on a program"));
            }
        }
    }
    for (name, banned) in NO_DIRECT {
        let found = banned.iter().filter(|banned| direct(name).contains(**banned));
        wrong.extend(found.map(|banned| format!("{name} does no IO, yet depends on {banned}")));
    }
    for (name, banned) in NO_PATH {
        let reachable = reachable(graph, name);
        let found = banned.iter().filter(|banned| reachable.contains(**banned));
        wrong.extend(found.map(|banned| format!("{name} reaches {banned}")));
    }
    for (package, home) in ONLY_IN {
        let others = graph.ours.iter().filter(|name| name != home && direct(name).contains(*package));
        wrong.extend(others.map(|name| format!("{name} depends on {package}, which only {home} may")));
    }
    wrong
}

fn reachable<'a>(graph: &'a Graph, from: &'a str) -> BTreeSet<&'a str> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(name) = open.pop() {
        for next in graph.edges.get(name).into_iter().flatten() {
            if seen.insert(next.as_str()) {
                open.push(next);
            }
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &[&str])]) -> Graph {
        let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
        Graph {
            ours: edges.iter().map(|(name, _)| (*name).to_owned()).collect(),
            edges: edges.iter().map(|(name, to)| ((*name).to_owned(), owned(to))).collect(),
        }
    }

    #[test]
    fn arrows_that_point_up_are_fine() {
        assert!(violations(&graph(&[("weft-model", &[]), ("weft-proto", &["weft-model"])])).is_empty());
    }

    #[test]
    fn an_arrow_that_points_down_is_named() {
        let wrong = violations(&graph(&[("weft-model", &["weft-proto"]), ("weft-proto", &[])]));
        assert_eq!(wrong, ["weft-model -> weft-proto points down"]);
    }

    #[test]
    fn the_data_plane_may_not_reach_a_registry_even_through_others() {
        let wrong = violations(&graph(&[("weft-proxy", &["x"]), ("x", &["consulrs"])]));
        assert!(wrong.iter().any(|w| w == "weft-proxy reaches consulrs"), "{wrong:?}");
    }

    #[test]
    fn a_program_is_nobodys_dependency() {
        let wrong = violations(&graph(&[("weft", &["weft-proxy"]), ("weft-proxy", &[])]));
        assert_eq!(wrong, ["weft -> weft-proxy: nothing depends on a program"]);
    }
}
