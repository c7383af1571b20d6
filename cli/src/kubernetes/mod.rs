//! `weft install` and `weft uninstall`: the control plane of a Kubernetes cluster without Helm.
//!
//! What is installed is the chart, rendered when this was built (`k8s/manifests/weft.yaml`, which a test holds against the
//! chart). Nothing here talks to an API server: what is to be applied is printed, and what is deleted goes through kubectl.

mod install;
mod manifests;
mod uninstall;

use anyhow::Result;

/// `weft install`.
#[derive(Debug, clap::Args)]
pub(crate) struct InstallArgs {
    #[command(subcommand)]
    platform: InstallPlatform,
}

#[derive(Debug, clap::Subcommand)]
enum InstallPlatform {
    /// Print the objects of a Kubernetes cluster's control plane, for kubectl apply -f -.
    Kubernetes(install::Args),
}

/// `weft uninstall`.
#[derive(Debug, clap::Args)]
pub(crate) struct UninstallArgs {
    #[command(subcommand)]
    platform: UninstallPlatform,
}

#[derive(Debug, clap::Subcommand)]
enum UninstallPlatform {
    /// Say what of the mesh is to be deleted from a Kubernetes cluster, or delete it.
    Kubernetes(uninstall::Args),
}

/// Runs `weft install`.
pub(crate) fn install(args: &InstallArgs) -> Result<()> {
    match &args.platform {
        InstallPlatform::Kubernetes(args) => install::run(args),
    }
}

/// Runs `weft uninstall`.
pub(crate) async fn uninstall(args: &UninstallArgs) -> Result<()> {
    match &args.platform {
        UninstallPlatform::Kubernetes(args) => uninstall::run(args).await,
    }
}

/// A name that a namespace can have (RFC 1123).
pub(crate) fn namespace(text: &str) -> Result<String, String> {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let ends = !text.starts_with('-') && !text.ends_with('-');
    let right = (1..=63).contains(&text.len()) && text.bytes().all(legal) && ends;
    right
        .then(|| text.to_owned())
        .ok_or_else(|| "expected 1 to 63 lower-case letters, digits and '-'".to_owned())
}

/// What can stand in an image's name, so that nothing else can come into the manifests with it.
pub(crate) fn image_part(text: &str) -> Result<String, String> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'/');
    let right = !text.is_empty() && text.bytes().all(legal) && !text.ends_with('/');
    right
        .then(|| text.to_owned())
        .ok_or_else(|| "expected letters, digits, '.', '-', '_', ':' and '/'".to_owned())
}
