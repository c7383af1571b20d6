//! The response that waits for its ACK, and what to take back if it is refused.

use std::collections::HashMap;
use std::sync::Arc;

use prost::Message as _;
use weft_proto::RESOURCE_ERRORS_URL;
use weft_proto::discovery::Status;
use weft_proto::mesh::v1::{ResourceError, ResourceErrors};

use super::error::cut_to;
use super::subscription::Known;

/// A response under way.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) nonce: String,
    pub(super) revision: u64,
    pub(super) sent: Vec<Sent>,
}

/// One name of a response.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) name: Arc<str>,
    /// What the client holds once it applied the response.
    pub(super) now: Known,
    /// What it holds if it refuses.
    pub(super) before: Option<Known>,
}

/// A resource, or the removal of one, that the client refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// What was refused: not sent again until it is something else.
    pub(super) what: Known,
    pub(super) field_path: String,
    pub(super) reason: String,
}

impl InFlight {
    /// What a NACK refuses. Our own clients name the resources and use the others; a client that names none (or none
    /// of this response) used nothing of it.
    pub(super) fn refused(self, nack: &Status) -> Vec<(Sent, Refusal)> {
        let errors = resource_errors(nack);
        // Looked up, not searched: a client may refuse ten thousand resources with a million errors.
        let mut by_name: HashMap<&str, &ResourceError> = HashMap::new();
        for error in &errors.errors {
            by_name.entry(&error.resource_name).or_insert(error);
        }
        let find = |name: &str| by_name.get(name).copied();
        let detailed = self.sent.iter().any(|sent| find(&sent.name).is_some());
        let mut texts = 0;
        let refusal = |sent: Sent| {
            let error = find(&sent.name);
            if error.is_none() && detailed {
                return None;
            }
            texts += 1;
            let most = if texts <= TEXTS_IN_FULL { 1024 } else { 64 };
            let (field_path, reason) = match error {
                Some(error) => (cut_to(&error.field_path, most), cut_to(&error.reason, most)),
                None => (String::new(), cut_to(&nack.message, most)),
            };
            let what = sent.now;
            Some((sent, Refusal { what, field_path, reason }))
        };
        self.sent.into_iter().filter_map(refusal).collect()
    }
}

/// A client that refuses everything says the same of everything: 1 kB of each would be 10 MB a response.
const TEXTS_IN_FULL: usize = 32;

fn resource_errors(nack: &Status) -> ResourceErrors {
    let detail = nack.details.iter().find(|detail| detail.type_url == RESOURCE_ERRORS_URL);
    // A detail that can't be read is none.
    detail.and_then(|detail| ResourceErrors::decode(detail.value.clone()).ok()).unwrap_or_default()
}
