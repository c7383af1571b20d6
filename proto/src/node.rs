//! `Node.id`: who is at the other end of a stream.
//!
//! `<spiffe id>~<instance name>`: the first half is held against the client certificate by the server, the second only
//! tells several proxies of one identity apart, in logs and tables.

use std::fmt;
use std::str::FromStr;

use weft_model::SpiffeId;

/// A parsed `Node.id`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    spiffe_id: SpiffeId,
    instance: String,
}

/// Why a text is not a node id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("node id {text:?} is not of the form <spiffe id>~<instance name>: {reason}")]
pub struct InvalidNodeId {
    /// What was given, cut to 256 bytes.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl NodeId {
    /// The id of instance `instance` that proves `spiffe_id`.
    ///
    /// # Errors
    /// When the instance name is empty, longer than 253 bytes, or has control characters.
    pub fn new(spiffe_id: SpiffeId, instance: &str) -> Result<Self, InvalidNodeId> {
        let fail = |reason: &str| {
            Err(InvalidNodeId { text: format!("{spiffe_id}~{}", cut(instance)), reason: reason.to_owned() })
        };
        if instance.is_empty() {
            return fail("the instance name is empty");
        }
        if instance.len() > 253 || instance.chars().any(char::is_control) {
            return fail("the instance name is longer than 253 bytes or has control characters");
        }
        Ok(Self { spiffe_id, instance: instance.to_owned() })
    }

    /// The identity that the client certificate must prove.
    pub fn spiffe_id(&self) -> &SpiffeId {
        &self.spiffe_id
    }

    /// The instance's name.
    pub fn instance(&self) -> &str {
        &self.instance
    }
}

impl FromStr for NodeId {
    type Err = InvalidNodeId;
    fn from_str(text: &str) -> Result<Self, InvalidNodeId> {
        let fail = |reason: String| InvalidNodeId { text: cut(text).to_owned(), reason };
        // A SPIFFE id holds no `~`, so the first one is the separator.
        let (id, instance) = text.split_once('~').ok_or_else(|| fail("there is no '~'".to_owned()))?;
        let id =
            id.parse().map_err(|invalid: weft_model::InvalidSpiffeId| fail(invalid.reason.to_owned()))?;
        Self::new(id, instance)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}~{}", self.spiffe_id, self.instance)
    }
}

/// At most 256 bytes of an outsider's text go into an error.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(256);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_id_is_read_back_as_it_was_written() {
        let text = "spiffe://mesh.test/ns/default/sa/web~web-7f~1";
        let id: NodeId = text.parse().unwrap();
        assert_eq!(id.spiffe_id().as_str(), "spiffe://mesh.test/ns/default/sa/web");
        assert_eq!(id.instance(), "web-7f~1");
        assert_eq!(id.to_string(), text);
    }

    #[test]
    fn a_node_id_without_identity_or_instance_is_refused() {
        let long = format!("spiffe://a/b~{}", "é".repeat(300));
        for bad in
            ["", "~", "web", "spiffe://a/b", "spiffe://a/b~", "http://a/b~c", "spiffe://a/b~c\n", &long]
        {
            let refused = bad.parse::<NodeId>().unwrap_err();
            assert!(refused.text.len() < 600, "{bad:?}");
        }
    }
}
