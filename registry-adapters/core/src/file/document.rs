//! One YAML document as it is written: fields with the lines they stand on, not yet given a meaning.
//!
//! The fields are read by hand and not by a derived tagged enum, since serde buffers tagged enums and loses every line on
//! the way. Names and numbers are parsed here, where the YAML reader still knows where it is.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde_saphyr::Spanned;
use weft_model::{Health, KEYS, PortName, Prefer, Protocol};

/// What a document describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum Kind {
    Service,
    Workload,
}

/// A document's fields. Which of them a kind may and must have is checked later.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) kind: Option<Kind>,
    pub(super) name: Option<Spanned<String>>,
    pub(super) ports: Option<Spanned<Vec<Port>>>,
    pub(super) addresses: Option<Spanned<Vec<Address>>>,
    pub(super) health: Option<Spanned<Health>>,
    pub(super) labels: Option<BTreeMap<String, String>>,
    pub(super) prefer: Option<Spanned<Prefer>>,
    /// The keys of the model's table, with one meaning on every platform.
    pub(super) metadata: BTreeMap<String, Spanned<String>>,
}

/// A port as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Port {
    pub(super) name: Option<PortName>,
    pub(super) number: Option<PortNumber>,
    pub(super) protocol: Option<PortProtocol>,
}

/// A port number that something can listen on.
#[derive(Debug, Clone, Copy)]
pub(super) struct PortNumber(pub(super) u16);

/// A protocol by any of its names.
#[derive(Debug, Clone, Copy)]
pub(super) struct PortProtocol(pub(super) Protocol);

/// An address that something can be reached at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Address(pub(super) IpAddr);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object: kind, name and further fields")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
        let mut document = Document::default();
        while let Some(field) = map.next_key::<String>()? {
            match field.as_str() {
                "kind" => document.kind = Some(map.next_value()?),
                "name" => document.name = Some(map.next_value()?),
                "ports" => document.ports = Some(map.next_value()?),
                "addresses" => document.addresses = Some(map.next_value()?),
                "health" => document.health = Some(map.next_value()?),
                "labels" => document.labels = Some(map.next_value()?),
                "prefer" => document.prefer = Some(map.next_value()?),
                key if is_metadata(key) => {
                    let value = map.next_value()?;
                    document.metadata.insert(field, value);
                }
                // Refused within its value, so that the error has the field's path and line.
                _ => map.next_value_seed(Unknown)?,
            }
        }
        Ok(document)
    }
}

/// Refuses the value of a field that does not exist.
struct Unknown;

impl<'de> DeserializeSeed<'de> for Unknown {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, _: D) -> Result<(), D::Error> {
        let own = ["kind", "name", "ports", "addresses", "health", "labels", "prefer"];
        let keys = KEYS.iter().map(|doc| doc.key).filter(|key| *key != NAMED_BY_PORTS);
        let known: Vec<&str> = own.into_iter().chain(keys).collect();
        Err(D::Error::custom(format!("there is no such field; known are {}", known.join(", "))))
    }
}

fn is_metadata(field: &str) -> bool {
    field != NAMED_BY_PORTS && (field.starts_with("protocol-") || KEYS.iter().any(|doc| doc.key == field))
}

/// The one key of the table that has no place here: a file's ports have names.
const NAMED_BY_PORTS: &str = "port";

impl<'de> Deserialize<'de> for PortNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.parse() {
            Ok(number) if number > 0 => Ok(Self(number)),
            _ => Err(D::Error::custom(format!("{text:?} is not a port number; expected 1 to 65535"))),
        }
    }
}

impl<'de> Deserialize<'de> for PortProtocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let address: Option<IpAddr> = text.parse().ok();
        match address.filter(|address| !address.is_unspecified() && !address.is_multicast()) {
            Some(address) => Ok(Self(address)),
            None => Err(D::Error::custom(format!(
                "{text:?} is not an address; expected the IPv4 or IPv6 address of one host"
            ))),
        }
    }
}
