//! Why a stream ends, and the gRPC code that it ends with.

use weft_proto::InvalidNodeId;

/// A request that breaks the protocol or a limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// One stream carries several types, so each request names its own.
    #[error("the request has no type_url")]
    EmptyTypeUrl,
    /// A type that is not served.
    #[error(
        "resources of type {0:?} are not served; known are weft.mesh.v1.Workload, Service and TrustBundle"
    )]
    UnknownType(String),
    /// The first request must say who asks.
    #[error("the first request of the stream has no node")]
    NodeMissing,
    /// It says so in a way that can't be read.
    #[error(transparent)]
    Node(InvalidNodeId),
    /// Workloads and services are subscribed to by name.
    #[error("'*' can be subscribed to for weft.mesh.v1.TrustBundle only")]
    Wildcard,
    /// No resource has such a name.
    #[error("a resource name has {0} bytes; at most {MAX_NAME} are allowed")]
    NameTooLong(usize),
    /// The limit of [`StreamSettings`](crate::StreamSettings).
    #[error("more than {limit} subscriptions to one type")]
    TooManySubscriptions {
        /// The limit.
        limit: usize,
    },
    /// The limit of [`StreamSettings`](crate::StreamSettings).
    #[error("the names that one type is subscribed to by have more than {limit} bytes")]
    TooManyNameBytes {
        /// The limit.
        limit: usize,
    },
    /// The limit of [`StreamSettings`](crate::StreamSettings).
    #[error("initial_resource_versions has more than {limit} entries")]
    TooManyHeld {
        /// The limit.
        limit: usize,
    },
}

impl StreamError {
    /// The gRPC status code.
    pub fn code(&self) -> i32 {
        match self {
            Self::TooManySubscriptions { .. } | Self::TooManyNameBytes { .. } | Self::TooManyHeld { .. } => {
                RESOURCE_EXHAUSTED
            }
            Self::EmptyTypeUrl
            | Self::UnknownType(_)
            | Self::NodeMissing
            | Self::Node(_)
            | Self::Wildcard
            | Self::NameTooLong(_) => INVALID_ARGUMENT,
        }
    }
}

/// The longest name that is remembered: an instance id has at most 1,024 bytes.
pub(super) const MAX_NAME: usize = 1024;

// google.rpc.Code
const INVALID_ARGUMENT: i32 = 3;
const RESOURCE_EXHAUSTED: i32 = 8;

/// At most 1 kB of a client's text is kept or shown.
pub(super) fn cut(text: &str) -> String {
    cut_to(text, 1024)
}

/// The beginning of a client's text, at most `most` bytes, without control characters.
pub(super) fn cut_to(text: &str, most: usize) -> String {
    // Of control characters alone there may be megabytes: what is looked at is bounded too.
    let seen = text.get(..text.floor_char_boundary(most)).unwrap_or_default();
    seen.chars().filter(|c| !c.is_control()).collect()
}
