//! `weft-redirect`: brings the rules that lead traffic through the proxy into this network namespace, or takes them away.
//!
//! Runs as an init container with NET_ADMIN and nothing else, beside `weft-cni` which does the same from outside, and for
//! people. Here are only the command line and what is printed.

mod arguments;
mod user;

use std::process::ExitCode;

use anyhow::Context;
use arguments::{Arguments, Command};
use clap::Parser;
use weft_redirect::RedirectSettings;
use weft_redirect::netlink::Kernel;
use weft_redirect::verify::verify;

fn main() -> ExitCode {
    start().unwrap_or_else(|error| {
        eprintln!("weft-redirect: {error:#}");
        ExitCode::FAILURE
    })
}

fn start() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut settings = arguments.settings()?;
    if let Some(name) = &arguments.proxy_user {
        (settings.proxy_uid, settings.proxy_gid) = (user::id(name)?, None);
        settings.validate()?;
    }
    let kernel = || match &arguments.netns {
        Some(path) => Kernel::in_namespace(path),
        None => Kernel::here(),
    };
    match arguments.command {
        Command::Apply => kernel()?.apply(&settings.ruleset()).context("the rules were not applied")?,
        Command::Check => return check(&kernel()?, &settings),
        Command::Clean => {
            let removed = kernel()?.clean().context("the rules were not removed")?;
            println!("{}", if removed { "the rules are removed" } else { "there were no rules" });
        }
        Command::Rules => print!("{}", settings.ruleset()),
        Command::Verify => println!("{}", verify(&settings)?),
    }
    Ok(ExitCode::SUCCESS)
}

fn check(kernel: &Kernel, settings: &RedirectSettings) -> anyhow::Result<ExitCode> {
    let differences = kernel.check(&settings.ruleset()).context("the rules cannot be read")?;
    for difference in &differences {
        println!("{difference}");
    }
    if differences.is_empty() {
        println!("the rules are as wanted");
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::from(2))
}
