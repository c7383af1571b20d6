//! The one endpoint model of the mesh.
//!
//! Registries say what exists ([`RegistryEvent`]); [`Catalog`] merges what they say and returns exactly what changed;
//! [`Snapshot`] is an immutable view of the result that costs nothing to copy. Pure: no IO, no clock, no async.
//!
//! What users write on their workloads ([`Metadata`]) is parsed here and nowhere else.

mod catalog;
mod changes;
mod entry;
mod mapping;
mod merge;
mod metadata;
mod name;
mod owner;
mod prefer;
mod service;
mod snapshot;
mod spiffe;
mod workload;

pub use catalog::Catalog;
pub use changes::{Changes, Revision};
pub use entry::{Entry, EntryKey, RegistryEvent, Scope};
pub use mapping::Mapping;
pub use metadata::{
    Cidr, Cpu, InboundPlaintext, KEYS, KeyDoc, KeyPart, KeySyntax, Memory, Metadata, MetadataProblem,
    ProxyMetadata, Severity, UnknownDestination, Upstream,
};
pub use name::{
    InstanceId, InvalidName, Namespace, Network, NodeName, PortName, RegistryId, RegistryKind, ServiceKey,
    ServiceName,
};
pub use owner::AddressOwner;
pub use prefer::Prefer;
pub use service::{NetworkAddress, Protocol, Service, ServicePort};
pub use snapshot::Snapshot;
pub use spiffe::{InvalidSpiffeId, SpiffeId, TrustDomain};
pub use workload::{Health, Locality, Provenance, Tunnel, Workload, WorkloadPort};
