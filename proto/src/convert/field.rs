//! Errors with the path of a field, and the checks that several resources share.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use bytes::Bytes;

use crate::mesh::v1 as wire;

/// Why a resource was refused. Becomes a `ResourceError` of a NACK.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("resource {name:?}, field {field_path:?}: {reason}")]
pub struct InvalidResource {
    /// The resource's name.
    pub name: String,
    /// Path of the field: `services[0].ports[1].number`; empty where the whole is not readable.
    pub field_path: String,
    /// What is wrong, and what was expected.
    pub reason: String,
}

/// A refused field, before the resource's name is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InvalidField {
    path: String,
    reason: String,
}

impl InvalidField {
    pub(super) fn new(path: impl Into<String>, reason: impl Display) -> Self {
        Self { path: path.into(), reason: reason.to_string() }
    }

    /// The same field, seen from the message around it.
    pub(super) fn within(self, outer: impl Display) -> Self {
        Self { path: format!("{outer}.{}", self.path), reason: self.reason }
    }

    pub(super) fn of(self, name: &str) -> InvalidResource {
        InvalidResource { name: name.to_owned(), field_path: self.path, reason: self.reason }
    }
}

/// Reads a message.
pub(super) fn message<M: prost::Message + Default>(name: &str, encoded: Bytes) -> Result<M, InvalidResource> {
    M::decode(encoded).map_err(|error| InvalidField::new("", error).of(name))
}

/// Reads a field through its newtype.
pub(super) fn parse<T: FromStr>(path: &str, text: &str) -> Result<T, InvalidField>
where
    T::Err: Display,
{
    text.parse().map_err(|error| InvalidField::new(path, error))
}

/// The resource's name must be the one its body gives.
pub(super) fn same_name(path: &str, name: &str, body: &str) -> Result<(), InvalidField> {
    match name == body {
        true => Ok(()),
        false => {
            Err(InvalidField::new(path, format!("{body:?} is not the name that the resource came under")))
        }
    }
}

/// Lists are written sorted and without repeats; one that is not was not written by us.
pub(super) fn ascending<T: Ord>(path: &str, previous: Option<&T>, next: &T) -> Result<(), InvalidField> {
    match previous {
        Some(previous) if previous == next => Err(InvalidField::new(path, "the same as the one before it")),
        Some(previous) if previous > next => Err(InvalidField::new(path, "the list is not sorted")),
        _ => Ok(()),
    }
}

/// Reads labels: sorted by key, no key twice.
pub(super) fn labels(labels: Vec<wire::Label>) -> Result<BTreeMap<String, String>, InvalidField> {
    let mut read = BTreeMap::new();
    for (i, label) in labels.into_iter().enumerate() {
        let path = format!("labels[{i}].key");
        if label.key.is_empty() {
            return Err(InvalidField::new(path, "it is empty"));
        }
        ascending(&path, read.last_key_value().map(|(key, _)| key), &label.key)?;
        read.insert(label.key, label.value);
    }
    Ok(read)
}

/// Writes labels in the order of their keys.
pub(super) fn write_labels<'a>(
    labels: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Vec<wire::Label> {
    labels.into_iter().map(|(key, value)| wire::Label { key: key.clone(), value: value.clone() }).collect()
}
