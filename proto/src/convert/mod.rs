//! Conversions between the wire and the model, one file a resource.
//!
//! Writing normalises (sorts, drops repeats), so that equal meaning is written equally. Reading is strict: what a
//! resource says is understood in full or refused with the path of the first field that is not.

mod address;
mod bundle;
mod field;
mod port;
mod service;
mod workload;

#[cfg(test)]
mod tests;

pub use address::{Address, address};
pub use bundle::{TrustBundle, trust_bundle};
pub use field::InvalidResource;
pub use service::service;
pub use workload::workload;
