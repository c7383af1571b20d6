//! Registry adapters: what every one of them must do, and what is done for all of them in one place.
//!
//! An adapter is a [`Registry`]: a stream that lists, then follows, for ever. [`supervise`] wraps it: it guards against
//! a listing that loses most of what there was ([`GuardSettings`]), keeps [`Freshness`], writes the log, and slows an
//! adapter that spins. The decision behind it: an error never removes anything, only `Reset` and `Remove` do, and that
//! rule is kept here and not in each adapter. It holds no merged view: that is `weft_model::Catalog`.
//!
//! [`file`] is the adapter for a directory of YAML. With the feature `testkit`, `testkit` holds the contract that
//! every adapter is run against.

mod backoff;
mod blocking;
pub mod duration;
mod error;
pub mod file;
mod freshness;
mod guard;
mod instances;
mod nomad_service;
mod reread;
mod supervise;
mod supervision;
mod telling;
#[cfg(feature = "testkit")]
pub mod testkit;

use futures::stream::BoxStream;
use weft_model::{RegistryEvent, RegistryId};

pub use backoff::Backoff;
pub use blocking::{BlockingIndex, Pace};
pub use error::{Problem, RegistryError, RegistryErrorKind, causes};
pub use freshness::{ErrorReport, Freshness, FreshnessTracker, HeldReset, Note, State, UnixMillis};
pub use guard::{Guard, GuardSettings, Verdict};
pub use instances::Instances;
pub use nomad_service::nomad_instance;
pub use reread::{Reread, RereadTrigger};
pub use supervise::{resume, supervise};
pub use supervision::{SuperviseSettings, Supervised, Supervision};
pub use telling::{Telling, stream_of};
pub use weft_model::Severity;

/// A source of services and workloads: Consul, Kubernetes, Nomad, a directory of files.
///
/// The contract of the stream:
/// - It never ends. Errors are items.
/// - Its first `Reset` of everything comes once everything was read, and may be empty: a source that holds nothing says so
///   with an empty `Reset`. *Not found*, *source down* and *permission denied* are errors and never an empty `Reset`.
/// - An error about the source as a whole ([`RegistryError::source_down`] and its siblings) holds until the next `Ok` item.
///   A source that answers again and has nothing new is reported with an empty `Upsert`.
/// - What is wrong with single objects is sent as [`RegistryError::problems`], each time the whole list. Such an object
///   keeps its last good state.
/// - After [`Reread::requested`] it reads everything anew from the source and emits `Reset`s, also if nothing changed.
/// - It paces its own retries ([`Backoff`]).
pub trait Registry: Send + 'static {
    /// Its stable name, as `consul/dc1`; a part of every key that it owns.
    fn id(&self) -> &RegistryId;

    /// Lists, then follows changes, for ever.
    fn watch(self: Box<Self>, reread: Reread) -> BoxStream<'static, Result<RegistryEvent, RegistryError>>;
}
