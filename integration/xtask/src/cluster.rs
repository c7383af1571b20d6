//! `cargo xtask cluster`: a real Kubernetes on this machine. Gets the tools and hands them to `weft-cluster`, which this
//! program does not link, as it has cryptography in it and this one is built first of all.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cache, process, test, tools};

/// The tools that a cluster is made of.
const TOOLS: &[&str] = &["WEFT_KUBERNETES", "WEFT_ETCD", "WEFT_COREDNS", "WEFT_CONTAINERD"];

/// `cargo xtask cluster`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(clap::Subcommand)]
enum Task {
    /// Bring a cluster up: its own network and processes, reached from here; it stays until `down`.
    Up {
        /// What to call it.
        #[arg(default_value = "dev")]
        name: String,
    },
    /// Bring it down; nothing of it is left.
    Down {
        /// Which.
        #[arg(default_value = "dev")]
        name: String,
    },
    /// kubectl of the cluster's own version, as its administrator.
    Kubectl {
        /// Which cluster.
        #[arg(long, default_value = "dev")]
        name: String,
        /// What kubectl is told.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Name the clusters that run.
    List,
    /// Import an archive of images into a cluster; pods use them with `imagePullPolicy: Never`.
    Load {
        /// Which cluster.
        name: String,
        /// An OCI or Docker archive.
        archive: PathBuf,
    },
}

/// `cargo xtask cluster`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let home = cache::directory()?.join("clusters");
    let mut command = match &args.task {
        Task::Kubectl { name, arguments } => return kubectl(&home.join(name), arguments),
        Task::Up { name } => {
            let mut command = program("up")?;
            command.arg(&home).arg(name).envs(variables()?);
            command
        }
        Task::Down { name } => {
            let mut command = program("down")?;
            command.arg(&home).arg(name);
            command
        }
        Task::List => {
            let mut command = program("list")?;
            command.arg(&home);
            command
        }
        Task::Load { name, archive } => {
            let mut command = program("load")?;
            command.arg(&home).arg(name).arg(archive);
            command
        }
    };
    let status = command.status().with_context(|| format!("starting {}", process::line(&command)))?;
    if !status.success() {
        bail!("weft-cluster ended with {status}");
    }
    Ok(())
}

/// Builds `weft-cluster` and takes it from its place: a node runs it for hours, not Cargo.
fn program(verb: &str) -> Result<Command> {
    let mut build = Command::new("cargo");
    build.args(["build", "--quiet", "--package", "weft-cluster"]).current_dir(cache::checkout());
    process::quiet(&mut build)?;
    let mut command = Command::new(test::target_directory()?.join("debug/weft-cluster"));
    command.arg(verb);
    Ok(command)
}

fn variables() -> Result<Vec<(&'static str, PathBuf)>> {
    let (variables, missing) = tools::environment(|tool| TOOLS.contains(&tool.variable));
    if !missing.is_empty() {
        bail!("{}", missing.join("; "));
    }
    Ok(variables)
}

/// Becomes the kubectl that the cluster was made with. What it remembers goes with the cluster.
fn kubectl(cluster: &Path, arguments: &[OsString]) -> Result<()> {
    let record = std::fs::read_to_string(cluster.join("cluster.json"));
    let record =
        record.with_context(|| format!("no cluster in {}; cargo xtask cluster up", cluster.display()))?;
    let record: serde_json::Value = serde_json::from_str(&record)?;
    let programs =
        record["tools"]["kubernetes"].as_str().context("the cluster's record names no programs")?;
    let program = Path::new(programs).join("kubectl");
    let mut command = Command::new(&program);
    command.args(arguments).env("KUBECONFIG", cluster.join("kubeconfig"));
    command.env("KUBECACHEDIR", cluster.join("data/kubectl"));
    Err(command.exec()).with_context(|| format!("starting {}", program.display()))
}
