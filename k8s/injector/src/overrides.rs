//! A container `weft-proxy` that the user wrote: what it may say about the proxy, and what not.
//!
//! The fields that cannot break anything win over ours; the others are refused, since a proxy with another user or
//! another command would capture itself or nothing at all.

use serde_json::{Map, Value};

use crate::{PROXY, pod};

/// What a user may set.
const ALLOWED: [&str; 8] = [
    "name",
    "image",
    "imagePullPolicy",
    "resources",
    "env",
    "volumeMounts",
    "terminationMessagePath",
    "terminationMessagePolicy",
];

/// Takes the user's containers of that name out of the pod.
pub(crate) fn take(pod: &mut Value, problems: &mut Vec<String>) -> Option<Value> {
    let mut taken = Vec::new();
    for field in ["initContainers", "containers"] {
        if pod::list(pod, field).iter().any(|container| pod::name(container) == PROXY) {
            let spec = pod.get_mut("spec")?;
            let list = pod::array(spec, field);
            taken.extend(list.extract_if(.., |container| pod::name(container) == PROXY));
        }
    }
    if taken.len() > 1 {
        problems.push(format!("there are {} containers {PROXY}: expected at most one", taken.len()));
    }
    let own = taken.pop()?;
    let fields = own.as_object().into_iter().flat_map(Map::keys);
    for field in fields.filter(|field| !ALLOWED.contains(&field.as_str())) {
        problems.push(format!(
            "the container {PROXY} sets {field}: it may set {}",
            ALLOWED.iter().skip(1).copied().collect::<Vec<_>>().join(", ")
        ));
    }
    Some(own)
}

/// The proxy's container with what the user wrote.
pub(crate) fn apply(container: &mut Value, own: Value) {
    let (Value::Object(container), Value::Object(own)) = (container, own) else { return };
    for (field, value) in own {
        match (field.as_str(), value) {
            ("env", Value::Array(own)) => add_named(container, "env", "name", own),
            ("volumeMounts", Value::Array(own)) => add_named(container, "volumeMounts", "mountPath", own),
            // An image "auto" stands for ours: a container without one is refused by some tools.
            ("image", Value::String(image)) if image == "auto" => {}
            (_, Value::Null) => {}
            (_, value) => _ = container.insert(field, value),
        }
    }
}

/// Adds items; one with the same `key` as one of ours takes its place.
fn add_named(container: &mut Map<String, Value>, field: &str, key: &str, own: Vec<Value>) {
    let Some(list) = container.get_mut(field).and_then(Value::as_array_mut) else { return };
    for item in own {
        match list.iter_mut().find(|ours| ours.get(key).is_some() && ours.get(key) == item.get(key)) {
            Some(ours) => *ours = item,
            None => list.push(item),
        }
    }
}
