//! The files of a cluster: where each is, and the templates under `files/` filled in. A placeholder that is not known,
//! or one that nobody fills, is an error, so that a template and its values can't part.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::network::Network;
use crate::pki::{ADMINS, Authority, Pair, tokens};

const CONTAINERD: &str = include_str!("../files/containerd.toml");
const KUBELET: &str = include_str!("../files/kubelet.yaml");
const KUBE_PROXY: &str = include_str!("../files/kube-proxy.yaml");
const KUBECONFIG: &str = include_str!("../files/kubeconfig.yaml");
const DNS: &str = include_str!("../files/dns.yaml");

/// The folder of one cluster; all that it keeps is in here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The administrator's way in.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.path("kubeconfig")
    }

    /// What a component printed.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.path("logs").join(format!("{name}.log"))
    }

    /// Makes the folders, empty.
    pub(crate) fn make(&self) -> Result<()> {
        for name in ["pki", "conf", "data", "logs"] {
            let path = self.path(name);
            std::fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        }
        Ok(())
    }

    /// Writes keys, certificates and settings for a cluster of this name at these addresses.
    pub(crate) fn write(&self, name: &str, network: Network) -> Result<()> {
        let pki = self.path("pki");
        let authority = Authority::new()?;
        authority.pair().write(&pki, "ca")?;
        tokens(&pki)?;
        for (file, names) in servers(name, network) {
            authority.server(file, names)?.write(&pki, file)?;
        }
        authority.client("kube-apiserver-kubelet-client", Some(ADMINS))?.write(&pki, "apiserver-kubelet")?;
        for (file, user, group) in clients(name) {
            let text = kubeconfig(name, network, &authority, &authority.client(&user, group)?)?;
            private(&pki.join(format!("{file}.kubeconfig")), &text)?;
        }
        let admin = kubeconfig(name, network, &authority, &authority.client("admin", Some(ADMINS))?)?;
        private(&self.kubeconfig(), &admin)?;
        let filled = |template| fill(template, &self.values(name, network));
        for (file, template) in [
            ("containerd.toml", CONTAINERD),
            ("kubelet.yaml", KUBELET),
            ("kube-proxy.yaml", KUBE_PROXY),
            ("dns.yaml", DNS),
        ] {
            private(&self.path("conf").join(file), &filled(template).context(file)?)?;
        }
        private(&self.path("conf").join("10-node.conflist"), &self.conflist(network).to_string())
    }

    fn values(&self, name: &str, network: Network) -> Vec<(&'static str, String)> {
        vec![
            ("data", self.path("data").display().to_string()),
            ("pki", self.path("pki").display().to_string()),
            ("cgroup", format!("/{}", network.link())),
            ("node", network.node().to_string()),
            ("node_name", node_name(name)),
            ("dns", network.dns().to_string()),
            ("pods", network.pair(&network.pods(), &network.pods_six())),
        ]
    }

    /// The pods' network. Addresses are not hidden behind the node's: the host has routes to them.
    fn conflist(&self, network: Network) -> serde_json::Value {
        let range = |subnet: String, first: String, gateway: String| serde_json::json!([{"subnet": subnet, "rangeStart": first, "gateway": gateway}]);
        let mut ranges =
            vec![range(network.pods(), network.first_pod().to_string(), network.node().to_string())];
        let mut routes = vec![serde_json::json!({"dst": "0.0.0.0/0"})];
        if network.dual {
            let (first, gateway) = (network.first_pod_six().to_string(), network.node_six().to_string());
            ranges.push(range(network.pods_six(), first, gateway));
            routes.push(serde_json::json!({"dst": "::/0"}));
        }
        serde_json::json!({
            "cniVersion": "1.0.0",
            "name": "node",
            "plugins": [
                {
                    "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
                    "ipam": {
                        "type": "host-local", "dataDir": self.path("data").join("ipam"),
                        "ranges": ranges, "routes": routes
                    }
                },
                {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}
            ]
        })
    }
}

/// The one node of a cluster.
pub(crate) fn node_name(cluster: &str) -> String {
    format!("{cluster}-node")
}

fn servers(name: &str, network: Network) -> [(&'static str, Vec<String>); 2] {
    let mut api: Vec<String> =
        ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "127.0.0.1"]
            .map(str::to_owned)
            .into();
    api.extend([network.node().to_string(), network.api_service().to_string()]);
    [("apiserver", api), ("kubelet-server", vec![network.node().to_string(), node_name(name)])]
}

/// File, user and group of each component that speaks to the API server.
fn clients(name: &str) -> [(&'static str, String, Option<&'static str>); 4] {
    let node = format!("system:node:{}", node_name(name));
    [
        ("kubelet", node, Some("system:nodes")),
        // As the administrator: it makes accounts' objects at once then, where one account for each of its loops costs seconds.
        ("kube-controller-manager", "weft-controller-manager".to_owned(), Some(ADMINS)),
        ("kube-scheduler", "system:kube-scheduler".to_owned(), None),
        ("kube-proxy", "system:kube-proxy".to_owned(), None),
    ]
}

fn kubeconfig(name: &str, network: Network, authority: &Authority, pair: &Pair) -> Result<String> {
    let values = [
        ("cluster", name.to_owned()),
        ("node", network.node().to_string()),
        ("authority", STANDARD.encode(authority.pair().certificate)),
        ("certificate", STANDARD.encode(&pair.certificate)),
        ("key", STANDARD.encode(&pair.key)),
    ];
    fill(KUBECONFIG, &values)
}

/// Puts values in the place of `{{name}}`.
fn fill(template: &str, values: &[(&str, String)]) -> Result<String> {
    let (mut filled, mut rest) = (String::with_capacity(template.len()), template);
    while let Some((before, behind)) = rest.split_once("{{") {
        let (name, after) = behind.split_once("}}").context("a placeholder has no end")?;
        let Some((_, value)) = values.iter().find(|(known, _)| *known == name) else {
            bail!("nothing is known of {name:?}");
        };
        filled.push_str(before);
        filled.push_str(value);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// Writes a file for the owner only: most hold a key, or lead to one.
pub(crate) fn private(path: &Path, text: &str) -> Result<()> {
    let file = std::fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: Network = Network { slot: 3, dual: true };

    #[test]
    fn every_template_is_filled_to_the_last_placeholder() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Folder(folder.path().to_owned());
        folder.make().unwrap();
        folder.write("dev", NETWORK).unwrap();
        for file in ["containerd.toml", "kubelet.yaml", "kube-proxy.yaml", "dns.yaml"] {
            let text = std::fs::read_to_string(folder.path("conf").join(file)).unwrap();
            assert!(!text.contains("{{"), "{file}: {text}");
        }
        assert!(std::fs::read_to_string(folder.kubeconfig()).unwrap().contains("https://10.244.3.1:6443"));
    }

    #[test]
    fn a_placeholder_that_is_not_known_is_an_error() {
        assert!(fill("a: {{b}}", &[("c", "1".to_owned())]).unwrap_err().to_string().contains("\"b\""));
        assert!(fill("a: {{b", &[]).is_err());
        assert_eq!(fill("{{a}}-{{a}} {x}", &[("a", "1".to_owned())]).unwrap(), "1-1 {x}");
    }

    #[test]
    fn keys_are_their_owners_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        private(&path, "x").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn pods_have_addresses_of_both_families_where_the_machine_has_them() {
        let folder = Folder("/x".into());
        let ranges =
            |dual| folder.conflist(Network { slot: 0, dual })["plugins"][0]["ipam"]["ranges"].clone();
        assert_eq!(ranges(true).as_array().unwrap().len(), 2);
        assert_eq!(ranges(false).as_array().unwrap().len(), 1);
    }
}
