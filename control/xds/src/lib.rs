//! Resource sets, their differences, and the subscription state machine of the delta protocol. Pure and sans-IO.
//!
//! [`Published`] is what every stream serves from: an immutable [`ResourceSet`] (each resource encoded once) and a
//! bounded log of what changed. [`Stream`] is one client's side of it: requests and publications in, responses out.
//! [`Ingestion`] makes it of what registries say, and [`Batch`] says when. Sockets, tasks and clocks are `weft-control`'s.

mod batch;
mod ingestion;
mod published;
mod resource;
mod resource_set;
mod stream;
mod version;

pub use batch::{Batch, BatchSettings};
pub use ingestion::{Ingestion, Source};
pub use published::{Changed, ChangedWorkload, Published};
pub use resource::Resource;
pub use resource_set::ResourceSet;
pub use stream::{RefusedResource, Stream, StreamError, StreamSettings, StreamStatus, TypeStatus};
pub use version::Version;
