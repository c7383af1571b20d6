//! From the API's JSON to the few fields that are held.
//!
//! Nothing here panics on what a server sends: a field of another type than the API's is an error of the whole answer,
//! which a real server never gives cause for, and a missing one has its default.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::raw::{Metadata, RawNamespace, RawNode, RawPod, RawService, RawSlice};
use super::{Kind, Object};

/// A page of a list.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) objects: Vec<Object>,
    pub(crate) version: String,
    /// What to ask for next; `None` behind the last.
    pub(crate) rest: Option<String>,
}

/// An object with its version.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) object: Object,
    pub(crate) version: String,
}

/// A line of a watch.
#[derive(Debug)]
pub(crate) enum WatchLine {
    /// Added or modified.
    Changed(Decoded),
    Deleted(Decoded),
    /// How far the watch is; `complete` at the end of the initial events.
    Bookmark {
        version: String,
        complete: bool,
    },
    /// The watch has failed with this status.
    Error {
        code: u16,
        message: String,
    },
}

/// Reads a page.
pub(crate) fn decode_page(kind: Kind, body: &[u8]) -> Result<Page, serde_json::Error> {
    fn read<T: DeserializeOwned + Into<Decoded>>(body: &[u8]) -> Result<Page, serde_json::Error> {
        let list: List<T> = serde_json::from_slice(body)?;
        Ok(Page {
            objects: list.items.into_iter().flatten().map(|item| item.into().object).collect(),
            version: list.metadata.resource_version,
            rest: list.metadata.rest.filter(|rest| !rest.is_empty()),
        })
    }
    match kind {
        Kind::Services => read::<RawService>(body),
        Kind::Slices => read::<RawSlice>(body),
        Kind::Pods => read::<RawPod>(body),
        Kind::Nodes => read::<RawNode>(body),
        Kind::Namespaces => read::<RawNamespace>(body),
    }
}

/// Reads a line of a watch; `None` for one of a type that we do not know.
pub(crate) fn decode_line(kind: Kind, line: &[u8]) -> Result<Option<WatchLine>, serde_json::Error> {
    let event: RawEvent<'_> = serde_json::from_slice(line)?;
    Ok(Some(match event.kind.as_ref() {
        "ADDED" | "MODIFIED" => WatchLine::Changed(decode_object(kind, event.object)?),
        "DELETED" => WatchLine::Deleted(decode_object(kind, event.object)?),
        "BOOKMARK" => {
            let Bare { metadata } = serde_json::from_str(event.object.get())?;
            let complete = metadata.annotations.get("k8s.io/initial-events-end") == Some("true");
            WatchLine::Bookmark { version: metadata.resource_version, complete }
        }
        "ERROR" => {
            let (code, message) = decode_status(event.object.get().as_bytes()).unwrap_or_default();
            WatchLine::Error { code, message }
        }
        _ => return Ok(None),
    }))
}

/// The code and message of a `Status`; `None` where it is none.
pub(crate) fn decode_status(body: &[u8]) -> Option<(u16, String)> {
    let status: RawStatus = serde_json::from_slice(body).ok()?;
    (status.kind == "Status").then_some((status.code, status.message))
}

fn decode_object(kind: Kind, object: &RawValue) -> Result<Decoded, serde_json::Error> {
    fn read<T: DeserializeOwned + Into<Decoded>>(object: &RawValue) -> Result<Decoded, serde_json::Error> {
        serde_json::from_str::<T>(object.get()).map(Into::into)
    }
    match kind {
        Kind::Services => read::<RawService>(object),
        Kind::Slices => read::<RawSlice>(object),
        Kind::Pods => read::<RawPod>(object),
        Kind::Nodes => read::<RawNode>(object),
        Kind::Namespaces => read::<RawNamespace>(object),
    }
}

#[derive(Deserialize)]
struct RawEvent<'a> {
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct RawStatus {
    kind: String,
    message: String,
    code: u16,
}

#[derive(Deserialize)]
struct List<T> {
    metadata: ListMetadata,
    items: Option<Vec<T>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMetadata {
    resource_version: String,
    #[serde(rename = "continue")]
    rest: Option<String>,
}

#[derive(Deserialize)]
struct Bare {
    metadata: Metadata,
}

#[cfg(test)]
mod tests;
