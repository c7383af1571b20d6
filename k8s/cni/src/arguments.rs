//! The node agent's command line and environment.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Sets up capture in pods' network namespaces, as a chained CNI plugin.
///
/// With CNI_COMMAND in its environment this program is the plugin.
#[derive(Debug, Parser)]
#[command(name = "weft-cni", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Put the plugin onto this node and keep it there until SIGTERM.
    Install {
        #[command(flatten)]
        node: Node,
        #[command(flatten)]
        access: Access,
        /// What happens to the plugin on SIGTERM.
        #[arg(long, env = "WEFT_CNI_ON_EXIT", value_enum, default_value = "remove")]
        on_exit: OnExit,
    },
    /// Take the plugin off this node: every file is then as it was.
    Uninstall {
        #[command(flatten)]
        node: Node,
    },
    /// Say by the exit status whether the plugin is in place; for the agent's readiness probe.
    Ready {
        #[command(flatten)]
        node: Node,
    },
}

/// What happens when the agent ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnExit {
    /// The plugin goes with it.
    Remove,
    /// It stays: no pod starts without its rules while the agent is replaced. `uninstall` takes it away.
    Keep,
}

/// Where things are on this node.
#[derive(Debug, Clone, Args)]
pub(crate) struct Node {
    /// The runtime's directory of CNI plugins, as this process sees it.
    #[arg(long, env = "WEFT_CNI_BIN_DIR", default_value = "/host/opt/cni/bin")]
    pub(crate) bin_dir: PathBuf,
    /// The runtime's directory of network configurations, as this process sees it.
    #[arg(long, env = "WEFT_CNI_CONF_DIR", default_value = "/host/etc/cni/net.d")]
    pub(crate) conf_dir: PathBuf,
    /// The same directory as the runtime sees it: there the plugin finds its kubeconfig.
    #[arg(long, env = "WEFT_CNI_HOST_CONF_DIR", default_value = "/etc/cni/net.d")]
    pub(crate) host_conf_dir: PathBuf,
    /// Pods of these namespaces are never looked at, and never wait for the API server.
    #[arg(
        long,
        env = "WEFT_CNI_EXCLUDE_NAMESPACES",
        value_delimiter = ',',
        default_value = "kube-system,weft-system"
    )]
    pub(crate) exclude_namespaces: Vec<String>,
}

/// How the plugin gets to the API server.
#[derive(Debug, Clone, Args)]
pub(crate) struct Access {
    /// The service account's directory, with `token` and `ca.crt`.
    #[arg(
        long,
        env = "WEFT_CNI_SERVICE_ACCOUNT",
        default_value = "/var/run/secrets/kubernetes.io/serviceaccount"
    )]
    pub(crate) service_account: PathBuf,
    /// The API server's host, as the node reaches it.
    #[arg(long, env = "KUBERNETES_SERVICE_HOST")]
    pub(crate) api_host: String,
    /// The API server's port.
    #[arg(long, env = "KUBERNETES_SERVICE_PORT", default_value = "443")]
    pub(crate) api_port: u16,
}
