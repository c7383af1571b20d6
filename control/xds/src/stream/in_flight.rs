//! The response that waits for its ACK, and what to take back if it is refused.

use std::sync::Arc;

use prost::Message as _;
use weft_proto::RESOURCE_ERRORS_URL;
use weft_proto::discovery::Status;
use weft_proto::mesh::v1::ResourceErrors;

use super::error::cut;
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
        let find = |sent: &Sent| errors.errors.iter().find(|error| error.resource_name == *sent.name);
        let detailed = self.sent.iter().any(|sent| find(sent).is_some());
        let refusal = |sent: Sent| {
            let (field_path, reason) = match find(&sent) {
                Some(error) => (cut(&error.field_path), cut(&error.reason)),
                None if detailed => return None,
                None => (String::new(), cut(&nack.message)),
            };
            let what = sent.now;
            Some((sent, Refusal { what, field_path, reason }))
        };
        self.sent.into_iter().filter_map(refusal).collect()
    }
}

fn resource_errors(nack: &Status) -> ResourceErrors {
    let detail = nack.details.iter().find(|detail| detail.type_url == RESOURCE_ERRORS_URL);
    // A detail that can't be read is none.
    detail.and_then(|detail| ResourceErrors::decode(detail.value.clone()).ok()).unwrap_or_default()
}
