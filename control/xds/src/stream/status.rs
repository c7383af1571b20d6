//! What an operator sees of a stream.

use serde::Serialize;

/// A stream's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamStatus {
    /// `Node.id`, once said.
    pub node: Option<String>,
    /// The client's name and version for itself.
    pub user_agent: Option<String>,
    /// Everything that concerns this client was sent, acknowledged and accepted.
    pub in_sync: bool,
    /// The newest revision of which the client has everything that concerns it; `None` before the first.
    pub applied_revision: Option<u64>,
    /// The newest revision that this stream has looked at.
    pub seen_revision: u64,
    /// The types, in the order of a stream.
    pub types: Vec<TypeStatus>,
}

/// The state of one type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TypeStatus {
    /// `Workload`, `Service`, `TrustBundle`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Names that are subscribed to; `*` counts as one.
    pub subscribed: usize,
    /// Resources that the client was sent.
    pub held: usize,
    /// Resources that wait for the response in flight to be acknowledged.
    pub waiting: usize,
    /// Names that this process does not know while a registry was not heard yet: neither removed nor called absent.
    pub undecided: usize,
    /// The revision of the response that is not yet acknowledged.
    pub in_flight_revision: Option<u64>,
    /// The newest revision sent.
    pub sent_revision: Option<u64>,
    /// The newest revision acknowledged.
    pub acked_revision: Option<u64>,
    /// The newest revision of which the client has everything of this type.
    pub applied_revision: Option<u64>,
    /// What the client refused, and keeps its older state of.
    pub refused: Vec<RefusedResource>,
}

/// A refused resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedResource {
    /// The resource.
    pub name: String,
    /// The version that was refused; `None`: its removal was.
    pub version: Option<String>,
    /// Path of the field that was not understood.
    pub field_path: String,
    /// The client's words.
    pub reason: String,
}

impl TypeStatus {
    /// Whether the client has everything of this type that concerns it and is known here.
    pub fn in_sync(&self) -> bool {
        self.waiting == 0 && self.in_flight_revision.is_none() && self.refused.is_empty()
    }
}
