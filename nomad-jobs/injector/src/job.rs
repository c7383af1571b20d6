//! A job's JSON: reading parts that may be absent or `null`, and adding to lists.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// The list in `field`; `null` and absent are empty.
pub(crate) fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The list in `field`, made where there is none.
pub(crate) fn list_mut<'a>(value: &'a mut Value, field: &str) -> &'a mut Vec<Value> {
    let place = &mut value[field];
    if !place.is_array() {
        *place = Value::Array(Vec::new());
    }
    match place {
        Value::Array(list) => list,
        _ => unreachable!("it was just made one"),
    }
}

/// Those in `field` that are there.
pub(crate) fn each_mut<'a>(value: &'a mut Value, field: &str) -> impl Iterator<Item = &'a mut Value> {
    value.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten()
}

/// The text in `field`; empty where there is none.
pub(crate) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// The texts of a map.
pub(crate) fn texts<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let map: Option<&Map<String, Value>> = value.get(field).and_then(Value::as_object);
    map.into_iter().flatten().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
}

/// The `meta` of a group: the job's and its own, which wins.
pub(crate) fn meta<'a>(job: &'a Value, group: &'a Value) -> BTreeMap<&'a str, &'a str> {
    texts(job, "Meta").chain(texts(group, "Meta")).collect()
}

/// What of the shape that every job has is not there: everything else relies on it.
pub(crate) fn misshapen(job: &Value) -> Option<String> {
    fn within(value: &Value, path: &str, fields: &[&str]) -> Option<String> {
        let (field, inner) = fields.split_first()?;
        let path = format!("{path}{field}");
        match value.get(field) {
            None | Some(Value::Null) => None,
            Some(Value::Array(list)) => {
                list.iter().enumerate().find_map(|(n, item)| match item.is_object() {
                    true => within(item, &format!("{path}[{n}]."), inner),
                    false => Some(format!("{path}[{n}]: expected an object")),
                })
            }
            Some(_) => Some(format!("{path}: expected a list")),
        }
    }
    if !job.is_object() || !job.get("TaskGroups").is_some_and(Value::is_array) {
        return Some("TaskGroups: expected a list, as every job has one".to_owned());
    }
    let paths: [&[&str]; 6] = [
        &["TaskGroups", "Networks", "DynamicPorts"],
        &["TaskGroups", "Networks", "ReservedPorts"],
        &["TaskGroups", "Services", "Checks"],
        &["TaskGroups", "Tasks", "Services", "Checks"],
        &["TaskGroups", "Tasks"],
        &["TaskGroups", "Services"],
    ];
    paths.iter().find_map(|path| within(job, "", path))
}

/// Takes a field away that was made for what is gone now.
pub(crate) fn drop_if_empty(value: &mut Value, field: &str) {
    if value.get(field).and_then(Value::as_array).is_some_and(Vec::is_empty)
        && let Some(fields) = value.as_object_mut()
    {
        fields.insert(field.to_owned(), Value::Null);
    }
}
