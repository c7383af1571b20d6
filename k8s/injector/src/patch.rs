//! What turns one JSON value into another, as JSON Patch (RFC 6902).
//!
//! Objects are compared field by field; lists of one length item by item, others are replaced whole: the API server
//! applies a patch to the very object that it asked about, so nothing can have moved meanwhile.

use serde::Serialize;
use serde_json::Value;

/// One operation.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Operation {
    /// The field is new.
    Add {
        /// Where, as a JSON pointer.
        path: String,
        /// What.
        value: Value,
    },
    /// The field has another value.
    Replace {
        /// Where.
        path: String,
        /// What.
        value: Value,
    },
    /// The field is gone.
    Remove {
        /// Where.
        path: String,
    },
}

/// What makes `after` of `before`.
pub(crate) fn between(before: &Value, after: &Value) -> Vec<Operation> {
    let mut operations = Vec::new();
    compare(before, after, &mut String::new(), &mut operations);
    operations
}

fn compare(before: &Value, after: &Value, path: &mut String, operations: &mut Vec<Operation>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for field in before.keys().filter(|field| !after.contains_key(*field)) {
                at(path, field, |path| operations.push(Operation::Remove { path: path.clone() }));
            }
            for (field, value) in after {
                at(path, field, |path| match before.get(field) {
                    Some(old) => compare(old, value, path, operations),
                    None => operations.push(Operation::Add { path: path.clone(), value: value.clone() }),
                });
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (n, (old, new)) in before.iter().zip(after).enumerate() {
                at(path, &n.to_string(), |path| compare(old, new, path, operations));
            }
        }
        _ if before == after => {}
        _ => operations.push(Operation::Replace { path: path.clone(), value: after.clone() }),
    }
}

/// Runs `then` with one step more in the path.
fn at(path: &mut String, step: &str, then: impl FnOnce(&mut String)) {
    let length = path.len();
    path.push('/');
    path.push_str(&step.replace('~', "~0").replace('/', "~1"));
    then(path);
    path.truncate(length);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// As the API server does it, for the operations that we make.
    pub(crate) fn apply(value: &mut Value, operations: &[Operation]) {
        for operation in operations {
            let (path, new) = match operation {
                Operation::Add { path, value } | Operation::Replace { path, value } => (path, Some(value)),
                Operation::Remove { path } => (path, None),
            };
            let Some((parent, step)) = path.rsplit_once('/') else {
                *value = new.unwrap().clone();
                continue;
            };
            let step = step.replace("~1", "/").replace("~0", "~");
            match (value.pointer_mut(parent).unwrap(), new) {
                (Value::Object(object), Some(new)) => _ = object.insert(step, new.clone()),
                (Value::Object(object), None) => _ = object.remove(&step).unwrap(),
                (Value::Array(list), Some(new)) => list[step.parse::<usize>().unwrap()] = new.clone(),
                (other, _) => panic!("{other} has no {step}"),
            }
        }
    }

    #[test]
    fn only_what_differs_is_named() {
        let before = json!({"a": 1, "b": {"c/d": [1, {"e": 2}]}, "gone": true});
        let after = json!({"a": 1, "b": {"c/d": [1, {"e": 3}], "~": null}});
        let written = serde_json::to_value(between(&before, &after)).unwrap();
        assert_eq!(
            written,
            json!([
                {"op": "remove", "path": "/gone"},
                {"op": "replace", "path": "/b/c~1d/1/e", "value": 3},
                {"op": "add", "path": "/b/~0", "value": null},
            ])
        );
    }

    fn anything() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), (0..3).prop_map(Value::from)];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::btree_map("[a-c/~]{0,2}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn applying_it_makes_the_one_of_the_other(before in anything(), after in anything()) {
            let mut patched = before.clone();
            apply(&mut patched, &between(&before, &after));
            prop_assert_eq!(patched, after);
        }
    }
}
