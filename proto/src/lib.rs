//! The wire schema and its conversions to and from the model.
//!
//! The `.proto` files are the schema; the modules here are what is generated from them. After a conversion no protobuf
//! type is seen again: parse, don't validate. What can't be read is an [`InvalidResource`] with the path of the field.

/// `weft.mesh`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod mesh {
    /// `weft.mesh.v1`: the resources that Weft's proxies subscribe to.
    pub mod v1 {
        tonic::include_proto!("weft.mesh.v1");
    }
}

/// `weft.ca`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines, rust_2018_idioms)]
pub mod ca {
    /// `weft.ca.v1`: certificate issuing.
    pub mod v1 {
        tonic::include_proto!("weft.ca.v1");
    }
}

/// `envoy.service.discovery.v3`: the transport.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines, rust_2018_idioms)]
pub mod discovery {
    tonic::include_proto!("envoy.service.discovery.v3");
}

mod convert;
mod node;
mod resource_type;
mod secret;

pub use convert::{Address, InvalidResource, TrustBundle, address, service, trust_bundle, workload};
pub use node::{InvalidNodeId, NodeId};
pub use resource_type::{RESOURCE_ERRORS_URL, ResourceType};
