//! `weft-cluster`: what `cargo xtask cluster` runs, and the first process of a node.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use weft_cluster::{Cluster, Keep, Name, Plan, Tools, down, list, start};

/// Real Kubernetes clusters of one node, for tests.
#[derive(Parser)]
#[command(name = "weft-cluster", version, about)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Bring a cluster up; it stays until it is brought down.
    Up { home: PathBuf, name: Name },
    /// Bring a cluster down; nothing of it is left.
    Down { home: PathBuf, name: Name },
    /// Name the clusters that run.
    List { home: PathBuf },
    /// Import an archive of images into a cluster.
    Load { home: PathBuf, name: Name, archive: PathBuf },
    /// Bring a cluster up for as long as standard input is open.
    #[command(hide = true)]
    Hold { home: PathBuf, name: Name },
    /// Be the first process of a node.
    #[command(hide = true)]
    Node { folder: PathBuf },
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft-cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Up { home, name } => up(&plan(home, name)?),
        Task::Down { home, name } => down(&home, &name),
        Task::List { home } => {
            for cluster in list(&home)? {
                println!("{}\texport KUBECONFIG={}", cluster.name(), cluster.kubeconfig().display());
            }
            Ok(())
        }
        Task::Load { home, name, archive } => Cluster::open(&home, &name)?.load_image(&archive),
        Task::Hold { home, name } => weft_cluster::hold(&plan(home, name)?),
        Task::Node { folder } => weft_cluster::node(&folder),
    }
}

fn plan(home: PathBuf, name: Name) -> Result<Plan> {
    let tools = Tools::from_environment();
    let tools =
        tools.map_err(|variable| anyhow::anyhow!("{variable} is not set; use cargo xtask cluster"))?;
    Ok(Plan { name, home, tools, program: std::env::current_exe()? })
}

fn up(plan: &Plan) -> Result<()> {
    let cluster = start(plan, Keep::UntilDown)?;
    // Beside this program, where the whole workspace has been built.
    let weft = plan.program.with_file_name("weft");
    if weft.exists() {
        cluster.load_workload(&weft)?;
    }
    let network = cluster.network();
    println!("{} is ready after {:.1} s", cluster.name(), cluster.took().as_secs_f32());
    println!("  pods      {}", network.pods());
    println!("  services  {}", network.services());
    println!("  host      {} (as pods reach it)", cluster.host_address());
    println!("export KUBECONFIG={}", cluster.kubeconfig().display());
    Ok(())
}
