//! `weft uninstall kubernetes`: takes away what `weft install kubernetes` brought, and what the control plane made since.
//!
//! The webhook goes first: while it is there and nobody answers, no pod could be created in namespaces with proxies.
//! Pods keep their proxies until they are replaced; who they are is said.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use super::manifests::{Object, Values, objects};
use crate::output;

/// `weft uninstall kubernetes`. What Helm installed, Helm takes away: helm uninstall weft -n NAMESPACE.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The control plane's namespace.
    #[arg(short, long, default_value = "weft-system", value_parser = super::namespace)]
    namespace: String,
    /// Delete it, and do not only say what would be deleted.
    #[arg(long)]
    yes: bool,
    /// The kubectl that reaches the cluster.
    #[arg(long, default_value = "kubectl", value_name = "PATH")]
    kubectl: PathBuf,
}

/// Runs it.
pub(super) async fn run(args: &Args) -> Result<()> {
    let steps = steps(&args.namespace)?;
    if !args.yes {
        let lines: Vec<String> = steps.iter().map(|step| format!("kubectl {}\n", step.join(" "))).collect();
        return output::print(&lines.concat());
    }
    refuse_helms(args).await?;
    for step in &steps {
        output::print(&kubectl(args, step).await?)?;
    }
    let pods = kubectl(args, &[PODS.map(str::to_owned).as_slice(), &[PROXIES.to_owned()]].concat()).await?;
    if !pods.is_empty() {
        eprintln!("These pods keep their proxies until they are replaced (kubectl rollout restart):");
        eprint!(
            "{}",
            pods.lines().map(|line| format!("  {}\n", output::printable(line))).collect::<String>()
        );
    }
    Ok(())
}

/// The arguments of kubectl, in order.
fn steps(namespace: &str) -> Result<Vec<Vec<String>>> {
    let mut objects = objects(&Values { cni: true, ..Values::in_namespace(namespace) }.rendered()?)?;
    // What it makes while it runs.
    let own = |kind: &str, name: &str| Object {
        kind: kind.to_owned(),
        name: name.to_owned(),
        namespace: Some(namespace.to_owned()),
    };
    objects.extend(["weft-ca", weft_identity::SHARED_TOKENS].map(|name| own("secret", name)));
    objects.sort_by_key(|object| match object.kind.as_str() {
        "mutatingwebhookconfiguration" => 0,
        "deployment" | "daemonset" => 1,
        "namespace" => 3,
        _ => 2,
    });
    Ok(objects.iter().map(step).collect())
}

fn step(object: &Object) -> Vec<String> {
    let mut words = vec!["delete".to_owned()];
    if object.kind == "namespace" {
        // Only where it is ours: who installed into a namespace of their own keeps it.
        let field = format!("--field-selector=metadata.name={}", object.name);
        words.extend(["namespace".to_owned(), "--selector=app.kubernetes.io/part-of=weft".to_owned(), field]);
        return words;
    }
    words.extend([format!("{}/{}", object.kind, object.name), "--ignore-not-found".to_owned()]);
    words.extend(object.namespace.iter().map(|namespace| format!("--namespace={namespace}")));
    words
}

/// Fails where Helm keeps a record of it, which would stay.
async fn refuse_helms(args: &Args) -> Result<()> {
    let namespace = format!("--namespace={}", args.namespace);
    let label = r"--output=jsonpath={.metadata.labels.app\.kubernetes\.io/managed-by}";
    let words = ["get", "deployment/weft-control", "--ignore-not-found", &namespace, label];
    let manager = kubectl(args, &words.map(str::to_owned)).await?;
    if manager == "Helm" {
        bail!("Helm installed it: helm uninstall weft --namespace {}", args.namespace);
    }
    Ok(())
}

async fn kubectl(args: &Args, words: &[String]) -> Result<String> {
    let mut command = Command::new(&args.kubectl);
    let output = command.args(words).stdin(Stdio::null()).output().await;
    let output = output.with_context(|| format!("running {}", args.kubectl.display()))?;
    if !output.status.success() {
        bail!("kubectl {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

const PODS: [&str; 3] = ["get", "pods", "--all-namespaces"];
/// `namespace/name` of each pod with a proxy.
const PROXIES: &str = r#"--output=jsonpath={range .items[?(@.metadata.annotations.weft\.dev/status)]}{.metadata.namespace}/{.metadata.name}{"\n"}{end}"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_webhook_goes_first_and_a_namespace_of_ours_last() {
        let steps: Vec<String> = steps("mesh").unwrap().iter().map(|step| step.join(" ")).collect();
        assert_eq!(steps[0], "delete mutatingwebhookconfiguration/weft-injector --ignore-not-found");
        let workloads = ["delete daemonset/weft-cni", "delete deployment/weft-control"];
        for (step, workload) in steps[1..].iter().zip(workloads) {
            assert_eq!(*step, format!("{workload} --ignore-not-found --namespace=mesh"));
        }
        let last =
            "delete namespace --selector=app.kubernetes.io/part-of=weft --field-selector=metadata.name=mesh";
        assert_eq!(steps.last().unwrap(), last);
        for kind in ["clusterrole/", "clusterrolebinding/", "priorityclass/", "secret/"] {
            assert!(steps.iter().any(|step| step.contains(kind)), "{kind}: {steps:?}");
        }
    }
}
