//! `weft install kubernetes`: prints what `kubectl apply -f -` takes.

use anyhow::Result;
use weft_model::TrustDomain;

use super::manifests::Values;
use crate::output;

/// `weft install kubernetes`. Helm has more values: helm install weft k8s/chart.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The control plane's namespace.
    #[arg(short, long, default_value = "weft-system", value_parser = super::namespace)]
    namespace: String,
    /// Where the images are: REGISTRY/proxy:TAG, REGISTRY/control:TAG and REGISTRY/cni:TAG.
    #[arg(long, default_value = "weft.dev", value_name = "REGISTRY", value_parser = super::image_part)]
    image_registry: String,
    /// The images' tag.
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"), value_name = "TAG", value_parser = super::image_part)]
    image_tag: String,
    /// The mesh's trust domain. It is part of every identity, so it cannot change later.
    #[arg(long, default_value = "weft.local", value_name = "DOMAIN")]
    trust_domain: TrustDomain,
    /// This cluster's name in the mesh.
    #[arg(long, default_value = "default", value_name = "NAME", value_parser = cluster)]
    cluster: String,
    /// Also the CNI plugin: pods are captured without any privilege of theirs.
    #[arg(long)]
    cni: bool,
}

/// Runs it.
pub(super) fn run(args: &Args) -> Result<()> {
    let values = Values {
        namespace: args.namespace.clone(),
        image_registry: args.image_registry.clone(),
        image_tag: args.image_tag.clone(),
        trust_domain: args.trust_domain.clone(),
        cluster: args.cluster.clone(),
        cni: args.cni,
    };
    output::print(&values.rendered()?)
}

fn cluster(text: &str) -> Result<String, String> {
    let values = Values { cluster: text.to_owned(), ..Values::in_namespace("weft-system") };
    values.registry().map(|_| text.to_owned()).map_err(|error| error.to_string())
}
