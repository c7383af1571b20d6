//! Objects of any kind: where the template of a pod is in them. What has none is left alone.

use serde_json::Value;

use crate::inject::{Outcome, inject};
use crate::{InjectorSettings, NamespaceView, Refused, Skip};

/// An object and what became of the pods in it.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectInjection {
    /// The object, with proxies where they belong.
    pub object: Value,
    /// Whether it is another one than before.
    pub changed: bool,
    /// Every workload that was found, in order.
    pub workloads: Vec<WorkloadOutcome>,
}

/// What became of one workload.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkloadOutcome {
    /// `Deployment shop/web`.
    pub name: String,
    /// Why it stays as it is; `None`: it has a proxy now.
    pub skipped: Option<Skip>,
    /// What its owner should look at.
    pub warnings: Vec<String>,
}

/// Puts the pods of an object into the mesh: of a pod itself, of what has a template, of a list of such.
/// `namespace` is that of objects that name none.
///
/// # Errors
/// With the object's name and everything that is wrong.
pub fn inject_object(
    object: &Value,
    namespace: &NamespaceView<'_>,
    settings: &InjectorSettings,
) -> Result<ObjectInjection, Refused> {
    let mut result = ObjectInjection { object: object.clone(), changed: false, workloads: Vec::new() };
    visit(&mut result, object, String::new(), namespace, settings)?;
    Ok(result)
}

fn visit(
    result: &mut ObjectInjection,
    object: &Value,
    at: String,
    namespace: &NamespaceView<'_>,
    settings: &InjectorSettings,
) -> Result<(), Refused> {
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    if kind == "List" {
        let items = object.get("items").and_then(Value::as_array).into_iter().flatten();
        // A list within a list is nothing that Kubernetes has.
        let mut items =
            items.enumerate().filter(|(_, item)| item.get("kind").and_then(Value::as_str) != Some("List"));
        return items
            .try_for_each(|(n, item)| visit(result, item, format!("{at}/items/{n}"), namespace, settings));
    }
    let Some(template) = template(kind) else { return Ok(()) };
    let metadata = |field: &str| object.get("metadata").and_then(|m| m.get(field)).and_then(Value::as_str);
    let own = metadata("namespace").unwrap_or(namespace.name);
    let name = format!("{kind} {own}/{}", metadata("name").or(metadata("generateName")).unwrap_or("?"));
    let Some(pod) = object.pointer(template) else {
        return Err(Refused::because(format!(
            "{name}: there is no {}",
            template.trim_start_matches('/').replace('/', ".")
        )));
    };
    let outcome = inject(pod, &NamespaceView { name: own, labels: namespace.labels }, settings);
    let outcome = outcome.map_err(|refused| Refused {
        problems: refused.problems.into_iter().map(|problem| format!("{name}: {problem}")).collect(),
    })?;
    let (skipped, warnings) = match outcome {
        Outcome::Skipped(reason) => (Some(reason), Vec::new()),
        Outcome::Injected(injection) => {
            if let Some(place) = result.object.pointer_mut(&format!("{at}{template}")) {
                *place = injection.pod;
                result.changed = true;
            }
            (None, injection.warnings)
        }
    };
    result.workloads.push(WorkloadOutcome { name, skipped, warnings });
    Ok(())
}

/// Where a kind has the template of its pods.
fn template(kind: &str) -> Option<&'static str> {
    match kind {
        "Pod" => Some(""),
        "Deployment" | "StatefulSet" | "DaemonSet" | "Job" | "ReplicaSet" | "ReplicationController" => {
            Some("/spec/template")
        }
        "CronJob" => Some("/spec/jobTemplate/spec/template"),
        _ => None,
    }
}
