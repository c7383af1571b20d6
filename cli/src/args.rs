//! The command line itself: what can be written, and what it means. Doc comments here are the help texts.

use clap::{CommandFactory, Parser, Subcommand};

use crate::control::ControlAddress;
use crate::output::Format;
use crate::{analyze, ca, demo, get, inject, kubernetes, nomad, status, token, workload};

/// One service mesh over Kubernetes, Consul, Nomad and VMs.
#[derive(Debug, Parser)]
#[command(name = "weft", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Cli {
    /// The control plane: its admin socket's path, http://HOST:PORT of its admin listener, or kubernetes[:NAMESPACE] for those in
    /// the cluster of $KUBECONFIG or ~/.kube/config [default: /var/lib/weft/admin.sock].
    #[arg(long, global = true, env = "WEFT_CONTROL", value_name = "PATH|URL|kubernetes")]
    pub(crate) control: Option<ControlAddress>,
    /// How to print what was asked for.
    #[arg(short, long, global = true, value_enum, default_value_t)]
    pub(crate) output: Format,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a whole mesh on this machine, show it at work, and take it away again.
    Demo(demo::Args),
    /// Show services, workloads or proxies.
    Get(get::Args),
    /// Show whether the control plane, its registries and its proxies are in order.
    Status(status::Args),
    /// Say what is wrong or surprising in a Kubernetes cluster's objects, or in files of them.
    Analyze(analyze::Args),
    /// Show the certificate authority's roots, and replace one.
    Ca(ca::Args),
    /// Make, list and revoke join tokens.
    Token(token::Args),
    /// Put the pods of Kubernetes objects into the mesh, and print the objects.
    Inject(inject::Args),
    /// Put Nomad jobs into the mesh.
    Nomad(nomad::Args),
    /// Print what installs a control plane.
    Install(kubernetes::InstallArgs),
    /// Say what an installation brought, or take it away.
    Uninstall(kubernetes::UninstallArgs),
    /// Print the completion script of a shell.
    ///
    /// bash: weft completion bash > /etc/bash_completion.d/weft
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// A small application to try a mesh with, as the demo runs them.
    #[command(hide = true)]
    Workload(workload::Args),
    /// Print the version.
    Version,
}

/// The completion script of `shell`.
pub(crate) fn completion(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "weft", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// At the end of `weft --help`.
const EXIT_CODES: &str = "\
Exit status:
  0  done
  1  it failed, or nothing has the name that was asked for
  2  the command line is wrong
  3  no control plane answered";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_may_follow_the_command() {
        let cli = Cli::try_parse_from([
            "weft",
            "get",
            "services",
            "api",
            "-n",
            "shop",
            "-o",
            "yaml",
            "--control",
            "/s",
        ])
        .unwrap();
        assert_eq!(cli.output, Format::Yaml);
        assert_eq!(cli.control, Some(ControlAddress::Socket("/s".into())));
    }

    #[test]
    fn wrong_values_are_refused() {
        for wrong in [
            &["weft", "get", "services", "-n", "a/b"][..],
            &["weft", "get"],
            &["weft", "status", "-o", "xml"],
            &["weft", "token", "create"],
            &["weft", "token", "create", "--identity", "a/b", "--ttl", "10"],
            &["weft", "--control", "https://a:1", "status"],
        ] {
            assert!(Cli::try_parse_from(wrong).is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn the_default_in_the_help_is_the_default() {
        let help = Cli::command().render_long_help().to_string();
        assert!(help.contains(&ControlAddress::default().to_string()), "{help}");
    }

    #[test]
    fn every_shell_gets_a_script() {
        for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
            assert!(completion(shell).contains("weft"), "{shell}");
        }
    }
}
