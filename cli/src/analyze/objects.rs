//! What is analysed: Kubernetes' objects as JSON, with what is asked about them again and again.

use std::collections::BTreeMap;

use serde_json::Value;
use weft_injector::InjectorSettings;

/// All that is known.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    pub(crate) all: Vec<Value>,
    /// What the control plane injects; its defaults where that is not known.
    pub(crate) settings: InjectorSettings,
    /// Whether the mesh has no registry but this cluster; `false` where that is not known.
    pub(crate) alone: bool,
    /// Where the control plane is; `None` where no cluster was asked.
    pub(crate) control: Option<String>,
    /// Whether objects that are not here exist all the same: of files without their cluster.
    pub(crate) partial: bool,
}

impl Objects {
    /// These objects.
    pub(crate) fn new(all: Vec<Value>) -> Self {
        Self { all, ..Self::default() }
    }

    /// Puts an object there as `kubectl apply` does: labels, annotations and addresses that it does not name stay.
    pub(crate) fn apply(&mut self, mut object: Value) {
        let place = name_of(&object);
        if let Some(at) = self.all.iter().position(|had| name_of(had) == place) {
            let had = self.all.swap_remove(at);
            for (parent, field) in KEPT {
                let Some(old) = had.pointer(&format!("{parent}/{field}")).cloned() else { continue };
                let Some(parent) = object.pointer_mut(parent).and_then(Value::as_object_mut) else {
                    continue;
                };
                let new = parent.entry(field).or_insert_with(|| old.clone());
                if let (Value::Object(new), Value::Object(old)) = (new, old) {
                    for (key, value) in old {
                        new.entry(key).or_insert(value);
                    }
                }
            }
        }
        self.all.push(object);
    }

    /// Those of a kind.
    pub(crate) fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.all.iter().filter(move |object| text(object, "/kind") == kind)
    }

    /// One by kind, namespace and name; of the whole cluster with an empty namespace.
    pub(crate) fn one(&self, kind: &str, namespace: &str, name: &str) -> Option<&Value> {
        let mut all = self.all.iter().filter(|object| text(object, "/kind") == kind);
        all.find(|object| namespace_of(object) == namespace && text(object, "/metadata/name") == name)
    }

    /// A namespace's labels. Of one that is not here it is assumed that it asks for proxies: who writes files for the
    /// mesh means it.
    pub(crate) fn labels(&self, namespace: &str) -> BTreeMap<String, String> {
        match self.one("Namespace", "", namespace) {
            Some(object) => labels(object, "/metadata/labels"),
            None if self.partial => [(weft_injector::INJECT.to_owned(), "enabled".to_owned())].into(),
            None => BTreeMap::new(),
        }
    }

    /// The controller of an object, where it has one.
    pub(crate) fn owner(&self, object: &Value) -> Option<&Value> {
        let owners = object.pointer("/metadata/ownerReferences")?.as_array()?;
        let owner = owners.iter().find(|owner| owner["controller"] == true)?;
        self.one(owner["kind"].as_str()?, namespace_of(object), owner["name"].as_str()?)
    }

    /// Who is to be told about an object: the controller of its controller, such as a pod's Deployment.
    pub(crate) fn top<'a>(&'a self, object: &'a Value) -> &'a Value {
        // A chain is at most CronJob, Job, pod; more steps are a circle.
        std::iter::successors(Some(object), |object| self.owner(object)).take(4).last().unwrap_or(object)
    }
}

/// What others write into an object than who applies it, by its parent.
const KEPT: [(&str, &str); 4] =
    [("/metadata", "labels"), ("/metadata", "annotations"), ("/spec", "clusterIP"), ("/spec", "clusterIPs")];

/// The template of pods in an object that has one.
pub(crate) fn template(object: &Value) -> Option<&Value> {
    match text(object, "/kind") {
        "CronJob" => object.pointer("/spec/jobTemplate/spec/template"),
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job" => object.pointer("/spec/template"),
        _ => None,
    }
}

/// `Deployment shop/web`.
pub(crate) fn name_of(object: &Value) -> String {
    let (kind, namespace, name) =
        (text(object, "/kind"), namespace_of(object), text(object, "/metadata/name"));
    match namespace {
        "" => format!("{kind} {name}"),
        namespace => format!("{kind} {namespace}/{name}"),
    }
}

/// Empty for what is in none.
pub(crate) fn namespace_of(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

/// A text in an object; empty where there is none.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A list in an object; empty where there is none.
pub(crate) fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A map of texts in an object.
pub(crate) fn labels(object: &Value, pointer: &str) -> BTreeMap<String, String> {
    let map = object.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
    map.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// Whether a label selector matches (meta/v1, LabelSelector); an empty one matches everything.
pub(crate) fn selects(selector: &Value, labels: &BTreeMap<String, String>) -> bool {
    let exact = self::labels(selector, "/matchLabels");
    let by_name = exact.iter().all(|(key, value)| labels.get(key) == Some(value));
    by_name && list(selector, "/matchExpressions").iter().all(|one| holds(one, labels))
}

fn holds(expression: &Value, labels: &BTreeMap<String, String>) -> bool {
    let has = labels.get(text(expression, "/key"));
    let among =
        || has.is_some_and(|has| list(expression, "/values").iter().any(|value| value == has.as_str()));
    match text(expression, "/operator") {
        "In" => among(),
        "NotIn" => !among(),
        "Exists" => has.is_some(),
        "DoesNotExist" => has.is_none(),
        _ => false,
    }
}
