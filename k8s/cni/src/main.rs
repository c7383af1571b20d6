//! `weft-cni`: sets up capture in a pod's network namespace before the pod starts, without any privilege of the pod.
//!
//! One program, two lives. With `CNI_COMMAND` in its environment it is a chained CNI plugin, which the container runtime
//! starts for each pod and which ends at once (`plugin.rs`). With a command it is the node agent, which puts the plugin
//! into the runtime's configuration and keeps it there (`install.rs`). Here are only the environment and the command line.

mod answer;
mod api;
mod arguments;
mod conflist;
mod decision;
mod install;
mod kubeconfig;
mod plugin;
mod request;

use std::io::Read;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use arguments::{Arguments, Command};
use request::Environment;

fn main() -> ExitCode {
    // One provider of cryptography in the process; a second installation can only be of the same one.
    _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    if std::env::var_os("CNI_COMMAND").is_some() {
        let answer = answer_plugin();
        println!("{}", answer.text);
        return if answer.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    command().unwrap_or_else(|error| {
        eprintln!("weft-cni: {error:#}");
        ExitCode::FAILURE
    })
}

fn answer_plugin() -> answer::Answer {
    let variable = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let mut input = String::new();
    let read = std::io::stdin().read_to_string(&mut input);
    plugin::run(&Environment::new(variable), read.map(|_| input.as_str()))
}

fn command() -> anyhow::Result<ExitCode> {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().context("runtime");
    match Arguments::parse().command {
        Command::Install { node, on_exit, access } => {
            runtime()?.block_on(install::run(&node, &access, on_exit))?;
        }
        Command::Uninstall { node } => node.uninstall()?,
        Command::Ready { node } => {
            if let Some(missing) = node.missing()? {
                println!("{missing}");
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
