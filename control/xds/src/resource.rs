//! A resource as it is sent: name, version, and its bytes, encoded once and shared by every stream.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use weft_proto::{ResourceType, discovery};

use crate::version::{Meaning, Version};

/// An encoded resource. A clone shares its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its name.
    pub name: Arc<str>,
    /// The hash of its meaning.
    pub version: Version,
    /// The protobuf message.
    pub encoded: Bytes,
}

impl Resource {
    pub(crate) fn new(name: Arc<str>, message: &(impl Meaning + Message)) -> Self {
        Self { name, version: message.version(), encoded: message.encode_to_vec().into() }
    }

    /// The resource in its envelope.
    pub(crate) fn to_wire(&self, kind: ResourceType) -> discovery::Resource {
        discovery::Resource {
            version: self.version.to_string(),
            resource: Some(discovery::Any { type_url: kind.url().to_owned(), value: self.encoded.clone() }),
            name: self.name.as_ref().to_owned(),
            aliases: Vec::new(),
        }
    }

    /// About what it costs in a response: the body, the name, the version, the type URL and the tags.
    pub(crate) fn cost(&self) -> usize {
        self.encoded.len() + self.name.len() + 32 + 64
    }
}
