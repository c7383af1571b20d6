//! Objects of files, as they would be in a cluster.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// Kinds that are in no namespace.
const OF_THE_CLUSTER: &[&str] = &[
    "Namespace",
    "MutatingWebhookConfiguration",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "PriorityClass",
    "StorageClass",
    "PersistentVolume",
    "Node",
];

/// The objects of a file, those of lists among them; those that name no namespace are in this one.
pub(super) fn read(file: &Path, namespace: &str) -> Result<Vec<Value>> {
    let text = match file.as_os_str() == "-" {
        true => {
            std::io::read_to_string(std::io::stdin().lock().take(LIMIT)).context("reading standard input")?
        }
        false => std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?,
    };
    parse(&text, namespace).with_context(|| file.display().to_string())
}

/// The same of a text.
pub(super) fn parse(text: &str, namespace: &str) -> Result<Vec<Value>> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)?;
    let mut objects = Vec::new();
    for document in documents {
        match document {
            // Comments alone are a document that is null.
            Value::Null => {}
            Value::Object(mut fields) if fields.get("kind").is_some_and(|kind| kind == "List") => {
                objects.extend(
                    fields
                        .get_mut("items")
                        .and_then(Value::as_array_mut)
                        .into_iter()
                        .flat_map(std::mem::take),
                );
            }
            other => objects.push(other),
        }
    }
    for object in &mut objects {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
            && !OF_THE_CLUSTER.contains(&kind.as_str())
        {
            metadata.entry("namespace").or_insert_with(|| namespace.into());
        }
    }
    Ok(objects)
}

/// More is no file of objects.
const LIMIT: u64 = 64 << 20;
