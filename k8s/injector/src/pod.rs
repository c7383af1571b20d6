//! Reading a pod, or the template of one, as JSON: what is not there or of another form is empty.
//!
//! Writing is here too where it makes what is missing. What the fields mean is in the other files.

use serde_json::{Map, Value};

/// `metadata.labels` or `metadata.annotations`; values that are not text are left out.
pub(crate) fn texts<'a>(pod: &'a Value, field: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    raw(pod, field).filter_map(|(key, value)| Some((key, value.as_str()?)))
}

/// `metadata.labels` or `metadata.annotations` with whatever the values are.
pub(crate) fn raw<'a>(pod: &'a Value, field: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let object = pod.get("metadata").and_then(|metadata| metadata.get(field)).and_then(Value::as_object);
    object.into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

/// One label or annotation.
pub(crate) fn text<'a>(pod: &'a Value, field: &str, key: &str) -> Option<&'a str> {
    pod.get("metadata")?.get(field)?.get(key)?.as_str()
}

/// A list of the spec: `containers`, `initContainers`, `volumes`.
pub(crate) fn list<'a>(pod: &'a Value, field: &str) -> &'a [Value] {
    let list = pod.get("spec").and_then(|spec| spec.get(field)).and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

/// The name of a container or volume.
pub(crate) fn name(item: &Value) -> &str {
    item.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// Whether an init container goes on running beside the others.
pub(crate) fn is_sidecar(container: &Value) -> bool {
    container.get("restartPolicy").and_then(Value::as_str) == Some("Always")
}

/// The containers that run as long as the pod, ours left out: those of the application, and its native sidecars.
pub(crate) fn lasting(pod: &Value) -> impl Iterator<Item = &Value> {
    let sidecars = list(pod, "initContainers").iter().filter(|container| is_sidecar(container));
    list(pod, "containers").iter().chain(sidecars).filter(|container| name(container) != crate::PROXY)
}

/// As [`lasting`], to be changed.
pub(crate) fn lasting_mut(pod: &mut Value) -> impl Iterator<Item = &mut Value> {
    let spec = pod.get_mut("spec").and_then(Value::as_object_mut);
    let lists = spec.into_iter().flat_map(Map::iter_mut).filter_map(|(field, list)| {
        let init = match field.as_str() {
            "containers" => false,
            "initContainers" => true,
            _ => return None,
        };
        Some((init, list.as_array_mut()?))
    });
    let all = lists.flat_map(|(init, list)| list.iter_mut().map(move |container| (init, container)));
    let lasting = all.filter(|(init, container)| !*init || is_sidecar(container));
    lasting.map(|(_, container)| container).filter(|container| name(container) != crate::PROXY)
}

/// The object at `field`, made where it is missing. What is there in another form is replaced: the API server would
/// have refused it.
pub(crate) fn object<'a>(parent: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    let place = entry(parent, field, || Value::Object(Map::new()));
    if !place.is_object() {
        *place = Value::Object(Map::new());
    }
    match place {
        Value::Object(object) => object,
        _ => unreachable!("it was just made an object"),
    }
}

/// The list at `field`, as [`object`].
pub(crate) fn array<'a>(parent: &'a mut Value, field: &str) -> &'a mut Vec<Value> {
    let place = entry(parent, field, || Value::Array(Vec::new()));
    if !place.is_array() {
        *place = Value::Array(Vec::new());
    }
    match place {
        Value::Array(list) => list,
        _ => unreachable!("it was just made a list"),
    }
}

fn entry<'a>(parent: &'a mut Value, field: &str, make: impl FnOnce() -> Value) -> &'a mut Value {
    if !parent.is_object() {
        *parent = Value::Object(Map::new());
    }
    match parent {
        Value::Object(map) => map.entry(field.to_owned()).or_insert_with(make),
        _ => unreachable!("it was just made an object"),
    }
}
