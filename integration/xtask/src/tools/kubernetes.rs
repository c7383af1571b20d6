//! Kubernetes and what a node of it needs: its own programs, etcd, CoreDNS and Helm from their Go modules; the container
//! runtime, CNI plugins and what images are made of from Debian. How a cluster is made of them is `cluster`'s.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{apt, go};
use crate::cache;

/// Without a version the server answers one that clients can't parse.
const VERSION: &str = "-X k8s.io/component-base/version.gitVersion=v1.37.2 \
    -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37";

const PROGRAMS: &[&str] = &[
    "k8s.io/kubernetes/cmd/kube-apiserver",
    "k8s.io/kubernetes/cmd/kube-controller-manager",
    "k8s.io/kubernetes/cmd/kube-proxy",
    "k8s.io/kubernetes/cmd/kube-scheduler",
    "k8s.io/kubernetes/cmd/kubectl",
    "k8s.io/kubernetes/cmd/kubelet",
];

/// The Debian packages of a node, each with a file by which it is known to be there.
const PACKAGES: &[(&str, &str)] = &[
    ("containerd", "/usr/bin/containerd"),
    ("runc", "/usr/sbin/runc"),
    ("containernetworking-plugins", "/usr/lib/cni/bridge"),
    ("busybox-static", "/usr/bin/busybox"),
    ("iproute2", "/usr/sbin/ip"),
    ("nftables", "/usr/sbin/nft"),
];

/// The folder of kube-apiserver, kube-controller-manager, kube-proxy, kube-scheduler, kubectl and kubelet.
pub(super) fn programs(name: &str) -> Result<PathBuf> {
    cache::once(name, |draft| go::build("kubernetes", PROGRAMS, VERSION, draft))
}

/// etcd's server.
pub(super) fn etcd(name: &str) -> Result<PathBuf> {
    let place = cache::once(name, |draft| {
        go::build("etcd", &["go.etcd.io/etcd/server/v3"], "", draft)?;
        // Go calls a program after the last part of its module that is no version.
        Ok(std::fs::rename(draft.join("server"), draft.join("etcd"))?)
    })?;
    Ok(place.join("etcd"))
}

/// The DNS of a cluster, with the few plugins that it needs.
pub(super) fn coredns(name: &str) -> Result<PathBuf> {
    let place = cache::once(name, |draft| go::build("coredns", &["."], "", draft))?;
    Ok(place.join("coredns"))
}

/// Helm's client.
pub(super) fn helm(name: &str) -> Result<PathBuf> {
    let place = cache::once(name, |draft| go::build("helm", &["helm.sh/helm/v4/cmd/helm"], "", draft))?;
    Ok(place.join("helm"))
}

/// The container runtime and the rest of a node; the variable is containerd's binary.
pub(super) fn node(_: &str) -> Result<PathBuf> {
    let missing: Vec<&str> =
        PACKAGES.iter().filter(|(_, file)| !Path::new(file).exists()).map(|(package, _)| *package).collect();
    if !missing.is_empty() {
        apt::install(&missing)?;
    }
    Ok("/usr/bin/containerd".into())
}
