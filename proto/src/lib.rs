//! The wire schema and its conversions to and from the model.
//!
//! The `.proto` files are the schema; the modules here are what is generated from them. After a conversion no protobuf
//! type is seen again: parse, don't validate.

/// `weft.mesh`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod mesh {
    /// `weft.mesh.v1`: the resources that Weft's proxies subscribe to.
    pub mod v1 {
        tonic::include_proto!("weft.mesh.v1");
    }
}

/// `weft.ca`.
#[allow(missing_docs, unreachable_pub, clippy::all, rust_2018_idioms)]
pub mod ca {
    /// `weft.ca.v1`: certificate issuing.
    pub mod v1 {
        tonic::include_proto!("weft.ca.v1");
    }
}

/// `envoy.service.discovery.v3`: the transport.
#[allow(missing_docs, unreachable_pub, clippy::all, rust_2018_idioms)]
pub mod discovery {
    tonic::include_proto!("envoy.service.discovery.v3");
}
