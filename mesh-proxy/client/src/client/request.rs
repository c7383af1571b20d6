//! The requests of a client.

use prost::Message as _;
use weft_proto::discovery::{Any, DeltaDiscoveryRequest, Status};
use weft_proto::mesh::v1::{ResourceError, ResourceErrors};
use weft_proto::{InvalidResource, RESOURCE_ERRORS_URL, ResourceType};

pub(super) fn subscribe(kind: ResourceType, names: Vec<String>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: kind.url().to_owned(),
        resource_names_subscribe: names,
        ..Default::default()
    }
}

pub(super) fn unsubscribe(kind: ResourceType, names: Vec<String>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: kind.url().to_owned(),
        resource_names_unsubscribe: names,
        ..Default::default()
    }
}

/// ACK, or NACK of the resources in `refused`.
pub(super) fn answer(type_url: String, nonce: String, refused: &[InvalidResource]) -> DeltaDiscoveryRequest {
    let error_detail = (!refused.is_empty()).then(|| Status {
        code: INVALID_ARGUMENT,
        message: refused.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        details: vec![Any {
            type_url: RESOURCE_ERRORS_URL.to_owned(),
            value: ResourceErrors { errors: refused.iter().map(error).collect() }.encode_to_vec().into(),
        }],
    });
    DeltaDiscoveryRequest { type_url, response_nonce: nonce, error_detail, ..Default::default() }
}

fn error(refused: &InvalidResource) -> ResourceError {
    ResourceError {
        resource_name: refused.name.clone(),
        field_path: refused.field_path.clone(),
        reason: refused.reason.clone(),
    }
}

// google.rpc.Code
const INVALID_ARGUMENT: i32 = 3;
