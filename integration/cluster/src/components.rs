//! The programs of a node and their arguments: a pure function of where things are. Ports are Kubernetes' own, as the
//! cluster's network namespace is its own.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::{Folder, node_name};
use crate::network::Network;

/// Where the programs are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tools {
    /// The folder of kube-apiserver, kubelet, kubectl and the others.
    pub kubernetes: PathBuf,
    /// etcd.
    pub etcd: PathBuf,
    /// CoreDNS.
    pub coredns: PathBuf,
    /// containerd.
    pub containerd: PathBuf,
}

impl Tools {
    /// As `cargo xtask` says it in the environment; the name of the first that is missing otherwise.
    ///
    /// # Errors
    /// With the variable that is not set.
    #[allow(clippy::disallowed_methods)] // how cargo xtask says where the tools are
    pub fn from_environment() -> Result<Self, &'static str> {
        let of = |name| std::env::var_os(name).map(PathBuf::from).ok_or(name);
        Ok(Self {
            kubernetes: of("WEFT_KUBERNETES")?,
            etcd: of("WEFT_ETCD")?,
            coredns: of("WEFT_COREDNS")?,
            containerd: of("WEFT_CONTAINERD")?,
        })
    }

    /// The client.
    pub fn kubectl(&self) -> PathBuf {
        self.kubernetes.join("kubectl")
    }
}

/// What runs before the API server answers.
pub(crate) const FIRST: &[&str] = &["etcd", "containerd", API_SERVER];
/// What runs once it does: it would give up, or wait longer and longer, before.
pub(crate) const THEN: &[&str] = &["kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"];
/// The API server.
pub(crate) const API_SERVER: &str = "kube-apiserver";

/// One program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Component {
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
}

/// All programs of a node.
pub(crate) fn all(name: &str, folder: &Folder, network: Network, tools: &Tools) -> Vec<Component> {
    let kubernetes = |name: &'static str, arguments: Vec<String>| Component {
        name,
        program: tools.kubernetes.join(name),
        arguments,
    };
    let conf = folder.path("conf");
    let containerd = conf.join("containerd.toml").display().to_string();
    vec![
        Component { name: "etcd", program: tools.etcd.clone(), arguments: etcd(folder) },
        Component {
            name: "containerd",
            program: tools.containerd.clone(),
            arguments: vec!["--config".to_owned(), containerd],
        },
        kubernetes(API_SERVER, api_server(&folder.path("pki"), network)),
        kubernetes("kube-controller-manager", controller_manager(&folder.path("pki"))),
        kubernetes("kube-scheduler", scheduler(&folder.path("pki"))),
        kubernetes("kubelet", kubelet(name, folder, network)),
        kubernetes("kube-proxy", vec![format!("--config={}", conf.join("kube-proxy.yaml").display())]),
    ]
}

fn etcd(folder: &Folder) -> Vec<String> {
    let data = folder.path("data").join("etcd");
    // The cluster does not outlive the machine, so nothing need reach the disk.
    vec![format!("--data-dir={}", data.display()), "--unsafe-no-fsync".to_owned()]
}

fn api_server(pki: &Path, network: Network) -> Vec<String> {
    let at = |flag: &str, file: &str| format!("--{flag}={}", pki.join(file).display());
    let services = network.pair(&network.services(), &network.services_six());
    vec![
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        "--secure-port=6443".to_owned(),
        "--bind-address=0.0.0.0".to_owned(),
        format!("--advertise-address={}", network.node()),
        "--endpoint-reconciler-type=lease".to_owned(),
        at("tls-cert-file", "apiserver.crt"),
        at("tls-private-key-file", "apiserver.key"),
        at("client-ca-file", "ca.crt"),
        at("kubelet-client-certificate", "apiserver-kubelet.crt"),
        at("kubelet-client-key", "apiserver-kubelet.key"),
        at("kubelet-certificate-authority", "ca.crt"),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        at("service-account-signing-key-file", "tokens.key"),
        at("service-account-key-file", "tokens.pub"),
        "--api-audiences=https://kubernetes.default.svc".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        format!("--service-cluster-ip-range={services}"),
        "--allow-privileged=true".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--profiling=false".to_owned(),
    ]
}

/// The flags by which a component speaks to the API server and judges who speaks to it.
fn ways(pki: &Path, file: &str) -> Vec<String> {
    let kubeconfig = pki.join(format!("{file}.kubeconfig"));
    let flags = ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"];
    let mut ways: Vec<String> =
        flags.iter().map(|flag| format!("--{flag}={}", kubeconfig.display())).collect();
    ways.extend(["--leader-elect=false", "--bind-address=127.0.0.1"].map(str::to_owned));
    ways
}

fn controller_manager(pki: &Path) -> Vec<String> {
    let at = |flag: &str, file: &str| format!("--{flag}={}", pki.join(file).display());
    let mut arguments = ways(pki, "kube-controller-manager");
    arguments.extend([
        at("service-account-private-key-file", "tokens.key"),
        at("root-ca-file", "ca.crt"),
        at("cluster-signing-cert-file", "ca.crt"),
        at("cluster-signing-key-file", "ca.key"),
        "--node-monitor-period=2s".to_owned(),
    ]);
    arguments
}

fn scheduler(pki: &Path) -> Vec<String> {
    ways(pki, "kube-scheduler")
}

fn kubelet(name: &str, folder: &Folder, network: Network) -> Vec<String> {
    let addresses = network.pair(&network.node().to_string(), &network.node_six().to_string());
    vec![
        format!("--config={}", folder.path("conf").join("kubelet.yaml").display()),
        format!("--kubeconfig={}", folder.path("pki").join("kubelet.kubeconfig").display()),
        format!("--root-dir={}", folder.path("data").join("kubelet").display()),
        format!("--hostname-override={}", node_name(name)),
        format!("--node-ip={addresses}"),
        // Where a real one's cloud would say it.
        format!("--node-labels=topology.kubernetes.io/region=test,topology.kubernetes.io/zone=test-{name}"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn components(dual: bool) -> Vec<Component> {
        let tools = Tools {
            kubernetes: "/k".into(),
            etcd: "/e".into(),
            coredns: "/c".into(),
            containerd: "/d".into(),
        };
        all("dev", &Folder("/x".into()), Network { slot: 1, dual }, &tools)
    }

    #[test]
    fn every_component_is_started_exactly_once() {
        let names: Vec<&str> = components(true).iter().map(|component| component.name).collect();
        assert_eq!(names, [FIRST, THEN].concat());
    }

    #[test]
    fn without_ipv6_no_argument_names_any() {
        let named = |dual| {
            let all = components(dual);
            all.iter().flat_map(|c| &c.arguments).filter(|argument| argument.contains("fd77")).count()
        };
        assert_eq!((named(true), named(false)), (2, 0));
    }
}
